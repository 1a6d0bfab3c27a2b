"""A generator that misbehaves on purpose, by what the prompt says."""

import os
import signal
from pathlib import Path
from typing import Any

from cxrsynth.generate.phantom import Phantom
from cxrsynth.records import Draw, Spec


class Flaky(Phantom):
    """The phantom, but ``index`` 4 fails as the file named in CXRSYNTH_TEST_FLAW says, until that file is gone."""

    @classmethod
    def from_recipe(cls, recipe: Any, model: Any, device: str, on_step: Any = None) -> "Flaky":
        return cls(height=128, width=128)

    def draw(self, specs: list[Spec]) -> list[Draw]:
        flaw = Path(os.environ["CXRSYNTH_TEST_FLAW"])
        if flaw.exists() and any(spec.index == 4 for spec in specs):
            how = flaw.read_text()
            if how == "kill once":
                flaw.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "once":
                flaw.unlink()
            raise RuntimeError("the machine is on fire")
        return super().draw(specs)
