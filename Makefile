# Everything sets itself up: a virtual environment in .venv, the package and its tools.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help docs fuzz test-cuda benchmark-better benchmark-classify benchmark-few benchmark-labels benchmark-networks benchmark-strong demo test lint train-mini bench-speed bench-precision bench-scale mini-auxiliary bench-masks bench-control bench-grounding tables benchmark benchmark-smoke benchmark-roentgen bench-train bench-adapt bench-adaptation benchmark-findings bench-upright upright

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cxrsynth needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is needed to build the DenseCRF: apt-get install gcc python3-dev"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
# The DenseCRF names an old Cython, whose code Python 3.13 does not compile; a newer one does.
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 13))' || exit 0; \
	  $(BIN)/python -m pip install --quiet 'cython>=3,<3.2' setuptools wheel && \
	  $(BIN)/python -m pip install --quiet --no-build-isolation --no-deps -c constraints.txt pydensecrf2
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## draw and label a small dataset with the bundled model, offline
	$(BIN)/cxrsynth generate --prompts recipes/lung.yaml --offline
	@echo "open out/lung/preview.png, then out/lung/report.html"

# Processes that share the tests, one core each; the tests of a file stay together, for they share what they made.
JOBS ?= 2

test: $(READY)  ## run the tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --durations 30

test-cuda: $(READY)  ## the tests that need a GPU; all are skipped without one
	$(BIN)/python -m pytest tests/test_cuda.py -rs

docs: $(READY)  ## build the site of docs/ in build/site; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# SEED=n repeats one try and keeps its files; TRIES and MINUTES end a campaign, whichever comes first.
TRIES   ?= 1000
MINUTES ?= 10

fuzz: $(READY)  ## random attacks on the command line: a thousand tries, at most ten minutes; SEED=n repeats one
	$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED),--tries $(TRIES) --minutes $(MINUTES))

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The folder with metadata.csv that 'ingest --layout collection' reads.
DATA ?= ../shared/data
# Changes of the training recipes, for example SET='--set training.updates=60000 --set training.batch=64'.
SET  ?=
MINI := $(BIN)/cxrsynth train-diffusion data/train256

# Findings are simulated in adult images of two hospitals, whose lungs and heart the bundled mask head labels; a dataset holds
# five findings at most, and each is put into images that are known to be without it.
SIMULATED := data/simulated-lungs data/simulated-chest

train-mini: runs/mini/vae/config.json  ## train the bundled model from the images in DATA; run it again to resume
	$(MINI) --recipe recipes/train/mini.yaml -o runs/mini $(SET)
	$(BIN)/cxrsynth annotate data/train256 -o data/carriers --split train --source nih --source shenzhen
	$(BIN)/cxrsynth simulate data/carriers -o $(word 1,$(SIMULATED)) -n 1500 -f opacity -f ground_glass -f consolidation -f nodule -f mass
	$(BIN)/cxrsynth simulate data/carriers -o $(word 2,$(SIMULATED)) -n 1000 -f effusion -f pneumothorax -f cardiomegaly --seed 1
	$(MINI) $(SIMULATED) --base runs/mini/model --recipe recipes/train/mini-grounded.yaml -o runs/mini-grounded $(SET)
	@echo "the model is in runs/mini-grounded/model: cxrsynth preview lung --model runs/mini-grounded/model --set 'masks.refine=[crf, laterality, morphology]'"

runs/mini/vae/config.json: | $(READY) data/train256
	$(BIN)/cxrsynth train-vae data/train256 --recipe recipes/train/mini.yaml -o runs/mini $(SET)

# Folder of DAAM's source (pip download daam==0.2.0 --no-deps --no-binary :all:), to run it beside the taps.
DAAM ?=

bench-speed: $(READY)  ## taps, memory, start-up, DenseCRF; every family beside diffusers; rejects; writes results/{speed,families,rejects}.json
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.families $(if $(DAAM),--daam $(DAAM))
	$(BIN)/python -m benchmarks.rejects
	$(MAKE) tables

bench-precision: $(READY)  ## what bfloat16 changes in images and masks; writes results/precision.json
	$(BIN)/python -m benchmarks.precision
	$(MAKE) tables

# About 5 GB of disk and some hours; SIZES="1000 4000" is a try.
SIZES ?= 1000 10000 100000

bench-scale: $(READY)  ## time and memory of planning, resuming, verify and report at several sizes; writes results/scale.json
	$(BIN)/python -m benchmarks.scale $(SIZES)
	$(MAKE) tables

data/train256: $(READY)
	$(BIN)/cxrsynth ingest --layout collection --polarity keep $(DATA) -o $@

# Networks that learned from real images alone evaluate synthetic ones.
SEGMENTER ?= runs/segmenter
LEARNED   := runs/classifier

# The small networks that belong to the bundled model: made anew whenever it changes. The affinity network learns from
# unlabelled images, the mask head from the masks that grounded the model, the pathology adapter from what is said of images.
# What was made for another model before is refused: remove out/pilot, runs/auxiliary and out/bench-masks first.
mini-auxiliary: data/train256 $(SEGMENTER)/model/config.json  ## train what belongs to the bundled model anew
	$(BIN)/cxrsynth annotate data/train256 -o out/pilot --split train --source nih --source shenzhen -n 128 --timestep 50 --set masks.refine=[]
	$(BIN)/cxrsynth train-affinity out/pilot -o runs/auxiliary/affinity.safetensors --set steps=200
	$(BIN)/cxrsynth train-mask-head data/train256 -o runs/auxiliary/mask_head.safetensors
	$(BIN)/cxrsynth train-pathology data/train256 --weights $(SEGMENTER) -o runs/auxiliary/pathology.safetensors
	cp runs/auxiliary/affinity.safetensors cxrsynth/models/mini.affinity.safetensors
	cp runs/auxiliary/mask_head.safetensors cxrsynth/models/mini.mask_head.safetensors
	cp runs/auxiliary/pathology.safetensors cxrsynth/models/mini.pathology.safetensors
	$(BIN)/python -c "from cxrsynth.weights import write_pins; write_pins('mini')"

GENERATED     ?= 32
READ      := --set 'masks.refine=[selfattention, mask_head]'
MASKS     := out/bench-masks
FEW       := $(MASKS)/mask-head-8.safetensors $(MASKS)/mask-head-32.safetensors
HEADS     := --set 'masks.refine=[mask_head, {use: mask_head, head: $(word 1,$(FEW))}, {use: mask_head, head: $(word 2,$(FEW))}]'
CHAINS    := $(BIN)/cxrsynth evaluate chains

bench-masks: $(addprefix $(MASKS)/.,val test montgomery worst generated labels cost walk)  ## masks on real and synthetic images, chain by chain; writes results/masks.json; run it again to resume

# Each part leaves a stamp: run again, only what is missing or has other chains is measured.
$(MASKS)/.val $(MASKS)/.test: $(MASKS)/.%: recipes/bench/masks.yaml | data/train256
	$(BIN)/cxrsynth annotate data/train256 -o $(MASKS)/$* --split $* --source wingspan $(READ)
	$(CHAINS) $(MASKS)/$* data/train256 --split $* --name wingspan:$*
	@touch $@

$(MASKS)/.montgomery: recipes/bench/masks.yaml | data/montgomery/summary.json
	$(BIN)/cxrsynth annotate data/montgomery -o $(MASKS)/montgomery $(READ)
	$(CHAINS) $(MASKS)/montgomery data/montgomery --name montgomery
	@touch $@

$(MASKS)/.worst: recipes/lung.yaml $(MASKS)/.test
	$(BIN)/cxrsynth refine $(MASKS)/test -o $(MASKS)/test-lung --masks recipes/lung.yaml --set curate.checks=[]
	$(BIN)/cxrsynth evaluate masks $(MASKS)/test-lung data/train256 --split test --worst docs/mask-failures.png --show 4
	@touch $@

$(MASKS)/.generated: recipes/lung.yaml recipes/bench/masks.yaml | $(SEGMENTER)/model/config.json
	$(BIN)/cxrsynth generate --prompts recipes/lung.yaml --count $(GENERATED) -o $(MASKS)/generated --set curate.checks=[] $(READ)
	$(BIN)/cxrsynth refine $(MASKS)/generated -o $(MASKS)/generated-lung --masks recipes/lung.yaml --set curate.checks=[]
	$(BIN)/cxrsynth evaluate agreement $(MASKS)/generated-lung --name generated --weights $(SEGMENTER) --chains recipes/bench/masks.yaml
	@touch $@

$(MASKS)/.labels: recipes/bench/labels.yaml $(FEW)
	$(BIN)/cxrsynth annotate data/train256 -o $(MASKS)/labels --split test --source wingspan $(HEADS)
	$(CHAINS) $(MASKS)/labels data/train256 --split test --name wingspan:test:labels --chains recipes/bench/labels.yaml
	@touch $@

$(MASKS)/.cost: recipes/bench/masks.yaml $(MASKS)/.val
	$(BIN)/python -m benchmarks.masks $(MASKS)/val
	@touch $@

$(MASKS)/.walk: | $(READY)
	$(BIN)/python -m benchmarks.walk
	@mkdir -p $(MASKS) && touch $@

$(MASKS)/mask-head-%.safetensors: | data/train256
	$(BIN)/cxrsynth train-mask-head data/train256 --images $* --set steps=200 -o $@

$(SEGMENTER)/model/config.json: | data/real/summary.json
	$(BIN)/cxrsynth train-seg --data data/real -o $(SEGMENTER)

CONTROLLED := $(BIN)/cxrsynth generate --prompts recipes/bench/control.yaml
WHOLE      := shape: whole, label: finding
CRF        := [{use: crf, bilateral_sxy: 4, bilateral_compat: 6}, laterality, morphology]

bench-control: data/real/summary.json data/montgomery/summary.json data/train256 $(LEARNED)/model/config.json $(SEGMENTER)/model/config.json  ## do images keep to imposed anatomies and findings; writes results/control.json; run it again to resume
	$(CONTROLLED) --set control.pathology=[] -o out/bench-control/with
	$(CONTROLLED) --set control=null --set masks.use=attention -o out/bench-control/free
	$(CONTROLLED) --count 32 -o out/bench-control/tuberculosis
	for one in "pneumonia:left lower zone" "effusion:right costophrenic angle" "cardiomegaly:heart"; do \
	  $(CONTROLLED) --count 32 --set "control.pathology=[{finding: $${one%%:*}, region: $${one#*:}, severity: [0.4, 0.8], label: finding}]" \
	    -o out/bench-control/$${one%%:*} || exit 1; \
	done
	$(CONTROLLED) --count 32 --set 'control.pathology=[{finding: pneumonia, region: left lower zone, $(WHOLE), method: inpaint}]' -o out/bench-control/inpainted
	$(CONTROLLED) --count 32 --set 'control.pathology=[{finding: pneumonia, region: left lower zone, severity: [0.4, 0.8], label: finding}, {finding: no abnormality, region: left lung}]' \
	  -o out/bench-control/removed
	$(BIN)/cxrsynth refine out/bench-control/free -o out/bench-control/labels-free --set 'masks.refine=$(CRF)'
	for use in control attention fused; do \
	  $(BIN)/cxrsynth refine out/bench-control/with -o out/bench-control/labels-$$use --set masks.use=$$use --set 'masks.refine=$(CRF)' || exit 1; \
	done
	for set in labels-control labels-attention labels-fused labels-free; do \
	  $(BIN)/cxrsynth compare --recipe recipes/compare/control.yaml --set synthetic=out/bench-control/$$set -o out/compare/$$set --workers $(WORKERS) || exit 1; \
	done
	$(BIN)/cxrsynth evaluate control out/bench-control/with --free out/bench-control/free \
	  $(foreach set,tuberculosis pneumonia effusion cardiomegaly inpainted removed,--after out/bench-control/$(set)) \
	  $(foreach set,labels-control labels-attention labels-fused labels-free,--downstream out/compare/$(set)) --classifier $(LEARNED) \
	  --weights $(SEGMENTER) --real data/train256 --variety out/bench-control/variety --picture docs/control.png
	$(MAKE) tables

# How many images the benchmark draws, and how many processes draw and train. In bfloat16 the masks are the same (Dice
# 0.999 with those of float32), a quarter sooner.
IMAGES   ?= 384
WORKERS ?= 2

GENERATE   = $(BIN)/cxrsynth generate --prompts recipes/lung.yaml --count $(IMAGES) --workers $(WORKERS) --set sampler.dtype=bfloat16

# Its labels are attention's and DenseCRF's, which need no mask head; benchmark-labels has those of the default chain.
benchmark: data/real/summary.json data/montgomery/summary.json  ## downstream utility of synthetic images next to real ones; writes results/compare.json; run it again to resume
	$(GENERATE) --set 'masks.refine=$(CRF)' -o out/benchmark/lung
	$(BIN)/cxrsynth compare --recipe recipes/compare/lung.yaml --workers $(WORKERS)
	cp out/compare/lung/compare.json out/compare/lung/compare.csv out/compare/lung/compare.md results/
	cp out/compare/lung/curves.png docs/scaling.png
	$(MAKE) tables
	@echo "open out/compare/lung/report.html"

benchmark-strong: data/real/summary.json data/montgomery/summary.json data/strong/summary.json  ## synthetic images against the masks of two hospitals, after 'make benchmark'; writes results/strong.json
	$(BIN)/cxrsynth compare --recipe recipes/compare/strong.yaml --workers $(WORKERS)
	cp out/compare/strong/compare.json results/strong.json
	$(MAKE) tables

benchmark-labels: data/real/summary.json data/montgomery/summary.json  ## synthetic images with the labels of the default chain; writes results/labels.json
	$(GENERATE) -o out/benchmark/mask-head
	$(BIN)/cxrsynth compare --recipe recipes/compare/labels.yaml --workers $(WORKERS)
	cp out/compare/labels/compare.json results/labels.json
	$(MAKE) tables

# Labelled patients of the few-label comparison, and the model that has seen captions only.
PATIENTS   ?= 4 8 16 32 64 211
UNGROUNDED ?= runs/mini/model
SCARCE     := out/few

benchmark-few: data/real/summary.json data/montgomery/summary.json $(SCARCE)/unlabelled/subset.json $(PATIENTS:%=$(SCARCE)/%/.generated)  ## what the masks of 4, 8 ... 211 patients buy, with every mask used anywhere of the same patients; writes results/few.json; run it again to resume
	$(BIN)/python -m benchmarks.few $(PATIENTS:%=$(SCARCE)/%) --real data/real
	$(BIN)/cxrsynth compare --recipe recipes/compare/few.yaml --workers $(WORKERS)
	cp out/compare/few/compare.json results/few.json
	cp out/compare/few/curves.png docs/few.png
	$(MAKE) tables

$(SCARCE)/unlabelled/subset.json: | data/train256
	$(BIN)/cxrsynth subset data/train256 --split train --masks 0 -o $(@D)

$(SCARCE)/%/.generated: | data/train256
	$(BIN)/cxrsynth subset data/train256 --masks $* -o $(@D)/data
	$(BIN)/cxrsynth train-diffusion $(@D)/data --base $(UNGROUNDED) --recipe recipes/train/few.yaml -o $(@D)/run $(SET)
	$(BIN)/cxrsynth train-mask-head $(@D)/data --model $(@D)/run/model -o $(@D)/mask_head.safetensors
	$(BIN)/cxrsynth generate --prompts recipes/bench/few.yaml --model $(@D)/run/model --workers $(WORKERS) \
	  --set 'masks.refine=[{use: mask_head, head: $(@D)/mask_head.safetensors}, laterality, morphology]' -o $(@D)/images
	touch $@

BETTER := out/better
FOLDS  := --folds 3 --updates 400 --size 96

benchmark-better: data/real/summary.json data/montgomery/summary.json  ## pruned, hard, relabelled and varied synthetic images beside the plain ones; writes results/better.json; run it again to resume
	$(GENERATE) -o $(BETTER)/plain
	$(BIN)/cxrsynth prune $(BETTER)/plain -o $(BETTER)/pruned --drop 0.1 $(FOLDS)
	$(BIN)/cxrsynth prune $(BETTER)/plain -o $(BETTER)/relabelled --drop 0 --relabel $(FOLDS)
	$(BIN)/cxrsynth generate --prompts recipes/varied.yaml --count $(IMAGES) --workers $(WORKERS) --set sampler.dtype=bfloat16 -o $(BETTER)/varied
	$(BIN)/cxrsynth compare --recipe recipes/compare/better.yaml --workers $(WORKERS)
	cp out/compare/better/compare.json results/better.json

# Test sets of your own, for example TESTS="mine=hospital other=data/other".
TESTS ?=
NETWORKS := $(BIN)/cxrsynth compare --workers $(WORKERS) $(addprefix --test ,$(TESTS)) $(SET) --recipe recipes/compare

benchmark-networks: data/real/summary.json data/montgomery/summary.json  ## strong networks: an ImageNet encoder and a transformer at 256 px until validation stops improving; writes results/{pretrained,segformer}.json; run it again to resume
	$(GENERATE) -o out/benchmark/mask-head
	for net in pretrained segformer; do \
	  $(NETWORKS)/$$net.yaml && cp out/compare/$$net/compare.json results/$$net.json || exit 1; \
	done
	$(MAKE) tables

data/strong/summary.json: | $(READY)
	$(BIN)/cxrsynth ingest --layout collection --polarity keep $(DATA) --source wingspan --source shenzhen --benchmark -o data/strong

data/real/summary.json: | $(READY)
	$(BIN)/cxrsynth ingest --layout collection --polarity keep $(DATA) --source wingspan -o data/real

data/montgomery/summary.json: | $(READY)
	$(BIN)/cxrsynth ingest --layout collection --polarity keep $(DATA) --source montgomery --benchmark -o data/montgomery

bench-upright: $(READY)  ## are inverted, mirrored and turned images found, and good ones left alone; writes results/upright.json
	$(BIN)/python -m benchmarks.upright $(DATA)

upright: | data/train256  ## fit the weights that tell how an image lies, then measure them
	$(BIN)/python -m benchmarks.upright $(DATA) --fit data/train256

benchmark-smoke: $(READY)  ## a whole comparison on phantoms in minutes; fails when a figure leaves its range
	$(BIN)/python -m benchmarks.smoke

# Images of the whole chain of RoentGen's figures.
FINDINGS ?= 384
MEASURED := out/bench-roentgen data/train256

benchmark-roentgen: data/train256 $(LEARNED)/model/config.json $(SEGMENTER)/model/config.json  ## fidelity, copies, prompts, text encoder, downstream utility for a classifier; run it again to resume
	$(BIN)/cxrsynth generate --prompts recipes/bench/roentgen.yaml --count $(FINDINGS) --workers $(WORKERS) -o out/bench-roentgen
	$(BIN)/cxrsynth evaluate images $(MEASURED) --name findings --classifier $(LEARNED) --segmenter $(SEGMENTER) --reject-copies out/findings/keep.txt -o out/findings
	cp out/findings/images.json results/findings.json
	$(BIN)/cxrsynth evaluate text mini data/train256 --classifier $(LEARNED)
	$(BIN)/cxrsynth compare --task classify --recipe recipes/compare/findings.yaml --workers $(WORKERS)
	cp out/compare/findings/compare.json results/classify.json
	$(BIN)/cxrsynth evaluate cls data/train256 --weights $(LEARNED)
	@echo "open out/findings/images-findings.html and out/compare/findings/compare.md"

STRONG := out/strong
LABELS := --labels pneumonia,tuberculosis,covid,cardiomegaly,effusion,infiltration
PRETRAINED := --encoder tf_efficientnet_lite0 --size 256 --set train.imagenet=true --set train.lr=0.0003

benchmark-classify: data/train256  ## plain, filtered and balanced synthetic images for a strong classifier, five seeds; for a GPU; writes results/classify-strong.json
	$(BIN)/cxrsynth generate --prompts recipes/bench/roentgen.yaml --count 4096 --workers $(WORKERS) -o $(STRONG)/plain
	$(BIN)/cxrsynth confirm $(STRONG)/plain --real data/train256 $(LABELS) $(PRETRAINED) -o $(STRONG)/confirmed
	$(BIN)/cxrsynth balance $(STRONG)/plain $(LABELS) -o $(STRONG)/balanced
	$(BIN)/cxrsynth balance $(STRONG)/confirmed $(LABELS) -o $(STRONG)/both
	$(BIN)/cxrsynth compare --task classify --recipe recipes/compare/findings-strong.yaml --workers $(WORKERS)
	cp out/compare/findings-strong/compare.json results/classify-strong.json

$(LEARNED)/model/config.json: data/train256
	$(BIN)/cxrsynth train-cls --data data/train256 -o $(LEARNED) --size 128 --updates 400

ADAPT := $(BIN)/cxrsynth train-diffusion data/train256 --base mini --recipe recipes/bench

bench-adaptation: data/train256 $(LEARNED)/model/config.json $(SEGMENTER)/model/config.json  ## mini adapted to children and to hearts, by LoRA and whole, before and after; writes results/adaptation.json; run it again to resume
	$(ADAPT)/children.yaml -o runs/children-lora --set what.unet=lora --set adapt.lr=5e-4
	$(ADAPT)/children.yaml -o runs/children-full
	$(ADAPT)/adaptation.yaml -o runs/hearts-lora --set what.unet=lora --set adapt.lr=5e-4
	$(ADAPT)/adaptation.yaml -o runs/hearts-full --set what.text_encoder=full --set adapt.steps=200
	$(BIN)/cxrsynth generate --prompts recipes/bench/hearts.yaml -o out/hearts/mini
	for run in hearts-lora hearts-full; do \
	  $(BIN)/cxrsynth generate --prompts recipes/bench/hearts.yaml --model runs/$$run/model -o out/hearts/$$run || exit 1; \
	done
	$(BIN)/python -m benchmarks.adaptation data/train256 recipes/bench/children.yaml runs/children-lora runs/children-full
	$(BIN)/python -m benchmarks.adaptation data/train256 recipes/bench/adaptation.yaml runs/hearts-lora runs/hearts-full --generated out/hearts --segmenter $(SEGMENTER) --classifier $(LEARNED)
	$(BIN)/cxrsynth evaluate text runs/hearts-full/model data/train256 --name hearts-full --classifier $(LEARNED)

bench-grounding: runs/mini/vae/config.json  ## train shortly with and without grounding; writes results/grounding.json
	$(BIN)/python -m benchmarks.grounding data/train256 runs/mini

# The half of the patients that is measured on: working, or once reporting. SET changes recipes/bench/findings.yaml.
HALF ?= working

benchmark-findings: data/train256 $(SEGMENTER)/model/config.json $(LEARNED)/model/config.json  ## findings against real lesions: words, networks, control, downstream utility, blind sheets; HALF=reporting once; writes results/lesions.json; run it again to resume
	$(BIN)/python -m benchmarks.findings data/train256 --segmenter $(SEGMENTER) --classifier $(LEARNED) --half $(HALF) --workers $(WORKERS) $(SET)
	$(MAKE) tables

bench-train: $(READY)  ## training speed and memory against a plain smp loop; writes results/train.json
	$(BIN)/python -m benchmarks.segmentation

bench-adapt: $(READY)  ## adapting: speed against diffusers' example loop; writes results/adapt.json
	$(BIN)/python -m benchmarks.adapt

tables: $(READY)  ## write the tables of docs/results and the model card from results/*.json
	$(BIN)/python -m cxrsynth.pages.tables docs/results/*.md cxrsynth/models/mini/README.md
