"use strict";
// What is shown lives in the address (#mask=off&split=val): one source of truth, and every view can be shared.
(() => {
  const $ = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const details = JSON.parse($("details").textContent);
  const DEFAULTS = { tab: "gallery", mask: "on", hide: "", split: "", class: "", finding: "", view: "", sex: "", reason: "", q: "", size: "m", open: "" };
  // View and sex are asked for only where images differ in them.
  const TYPED = ["split", "class", "view", "sex", "reason", "q", "size"].filter((id) => $(id));
  const state = { ...DEFAULTS };
  const tiles = all(".tile");
  const chips = all(".chip[data-class]");
  const picks = all(".chip.pick");
  const tabs = all("[role=tab]");

  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const key in DEFAULTS) state[key] = given.get(key) ?? DEFAULTS[key];
    if (state.reason && !given.has("tab")) state.tab = "rejected";
    if (!tabs.some((tab) => tab.dataset.tab === state.tab)) state.tab = DEFAULTS.tab;
    show();
  }

  function set(changes) {
    Object.assign(state, changes);
    const kept = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]);
    history.replaceState(null, "", "#" + new URLSearchParams(kept));
    show();
  }

  const matches = (data) =>
    (!state.split || data.split === state.split) &&
    (!state.finding || data.findings.includes(`|${state.finding}|`)) &&
    (!state.view || data.view === state.view) &&
    (!state.sex || data.sex === state.sex) &&
    (state.tab !== "gallery" || !state.class || data.classes.includes(` ${state.class} `)) &&
    (state.tab !== "rejected" || !state.reason || data.reason === state.reason) &&
    (!state.q || data.text.includes(state.q.toLowerCase()));

  const visible = () => all(`#${state.tab} .tile`).filter((tile) => !tile.hidden);

  function show() {
    Object.assign(document.body.dataset, { tab: state.tab, mask: state.mask, size: state.size });
    for (const tab of tabs) {
      const here = tab.dataset.tab === state.tab;
      tab.setAttribute("aria-selected", here);
      tab.tabIndex = here ? 0 : -1;
      $(tab.dataset.tab).hidden = !here;
    }
    const hidden = state.hide.split(",");
    for (const chip of chips) {
      const off = hidden.includes(chip.dataset.class);
      chip.setAttribute("aria-pressed", !off);
      document.body.classList.toggle(`hide-c${chip.dataset.id}`, off);
    }
    for (const pick of picks) pick.setAttribute("aria-pressed", pick.dataset.finding === state.finding);
    $("mask").setAttribute("aria-checked", state.mask !== "off");
    for (const id of TYPED) if ($(id).value !== state[id]) $(id).value = state[id];
    const here = all(`#${state.tab} .tile`);
    for (const tile of here) tile.hidden = !matches(tile.dataset);
    const left = visible().length;
    $("count").textContent = left === here.length ? `${left} shown` : `${left} of ${here.length} shown`;
    $("tools").hidden = !here.length;
    enlarge();
  }

  function toggleClass(name) {
    const hidden = new Set(state.hide.split(",").filter(Boolean));
    if (!hidden.delete(name)) hidden.add(name);
    set({ hide: [...hidden].join(","), mask: "on" });
  }
  const toggleMask = () => set({ mask: state.mask === "off" ? "on" : "off" });

  // -- large view: everything a user wrote goes through textContent -------------------------------------------
  function enlarge() {
    const box = $("large");
    const tile = tiles.find((one) => one.dataset.id === state.open);
    if (!tile) { if (box.open) box.close(); return; }
    const detail = details[state.open];
    const stack = tile.querySelector(".stack");
    $("view").replaceChildren(...all("img", stack).map((image) => image.cloneNode()));
    $("view").style.aspectRatio = stack.style.aspectRatio;
    const seen = visible();
    const place = seen.indexOf(tile);
    $("d-key").textContent = state.open;
    $("d-place").textContent = place < 0 ? "" : `${place + 1} of ${seen.length}`;
    $("d-reason").textContent = detail.reason ? `rejected: ${detail.why}${detail.why === detail.reason ? "" : ` (${detail.reason})`}` : "";
    $("d-prompt").textContent = detail.prompt || "–";
    $("d-not").hidden = !detail.negative_prompt;
    $("d-negative").textContent = detail.negative_prompt || "";
    $("d-facts").replaceChildren(...pairs(detail.facts));
    $("d-scores").replaceChildren(...scores(detail.scores, detail.named));
    $("d-make").hidden = !detail.command;
    $("d-command").textContent = detail.command;
    $("d-copy").textContent = "Copy";
    $("d-links").replaceChildren(...["image", "mask"].filter((what) => detail[what]).map((what) => link(what, detail[what])));
    if (!box.open) box.showModal();
  }

  function element(tag, text, style = "") {
    const made = document.createElement(tag);
    made.textContent = text;
    if (style) made.className = style;
    return made;
  }
  const pairs = (facts) => Object.entries(facts).flatMap(([name, value]) => [element("dt", name), element("dd", value)]);

  function scores(values, named) {
    const names = Object.keys(values);
    if (!names.length) return [];
    const list = element("ul", "", "bars");
    for (const name of names) {
      const row = element("li", "");
      const bar = element("span", "", "bar");
      const fill = element("b", "");
      fill.style.width = `${100 * Math.min(1, Math.max(0, values[name]))}%`;
      bar.append(fill);
      const label = element("span", named[name], "name");
      label.title = name;
      row.append(label, bar, element("span", values[name].toPrecision(3), "n"));
      list.append(row);
    }
    return [element("h3", "Scores"), list];
  }

  function link(what, path) {
    const made = element("a", `Open the full-size ${what}`);
    made.href = path.split("/").map(encodeURIComponent).join("/");
    made.target = "_blank";
    return made;
  }

  function step(by) {
    const seen = visible();
    const place = seen.findIndex((tile) => tile.dataset.id === state.open);
    if (seen.length) set({ open: seen[(place + by + seen.length) % seen.length].dataset.id });
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText($("d-command").textContent);
      $("d-copy").textContent = "Copied";
    } catch {
      // A page opened from disk may be refused the clipboard: leave the text selected for the person's own copy.
      getSelection().selectAllChildren($("d-command"));
      $("d-copy").textContent = "Selected";
    }
  }

  // -- events -----------------------------------------------------------------------------------------------------
  for (const tab of tabs) tab.addEventListener("click", () => set({ tab: tab.dataset.tab }));
  document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const next = tabs[(tabs.findIndex((tab) => tab.dataset.tab === state.tab) + by + tabs.length) % tabs.length];
    set({ tab: next.dataset.tab });
    next.focus();
  });
  for (const id of TYPED) $(id).addEventListener("input", () => set({ [id]: $(id).value }));
  for (const chip of chips) chip.addEventListener("click", () => toggleClass(chip.dataset.class));
  for (const pick of picks) pick.addEventListener("click", () => set({ finding: state.finding === pick.dataset.finding ? "" : pick.dataset.finding }));
  for (const tile of tiles) tile.firstElementChild.addEventListener("click", () => set({ open: tile.dataset.id }));
  $("mask").addEventListener("click", toggleMask);
  $("d-mask").addEventListener("click", toggleMask);
  $("d-prev").addEventListener("click", () => step(-1));
  $("d-next").addEventListener("click", () => step(1));
  $("d-close").addEventListener("click", () => set({ open: "" }));
  $("d-copy").addEventListener("click", copy);
  $("large").addEventListener("close", () => {
    const last = tiles.find((tile) => tile.dataset.id === state.open);
    if (!last) return;
    set({ open: "" });
    last.firstElementChild.focus();
  });
  $("large").addEventListener("click", (event) => { if (event.target === $("large")) set({ open: "" }); });
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
    if (state.open && event.key === "ArrowRight") step(1);
    else if (state.open && event.key === "ArrowLeft") step(-1);
    else if (event.key === "m") toggleMask();
    else if (event.key === "/" && !state.open) { event.preventDefault(); $("q").focus(); }
    else if (/^[1-9]$/.test(event.key) && chips[event.key - 1]) toggleClass(chips[event.key - 1].dataset.class);
  });
  addEventListener("hashchange", read);
  read();
})();
