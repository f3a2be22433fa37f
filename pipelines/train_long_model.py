"""Train a model of the long world and save it as a Hugging Face checkpoint.

    python -m pipelines.train_long_model                  # about an hour and a half on a core, resumes where it stopped
    python -m pipelines.train_long_model --compile        # a fifth faster where a C++ compiler is installed
    python -m pipelines.train_long_model --quick          # seconds; an untrained stand-in in a scratch folder

    python -m pipelines.train_long_model --architecture glm4v --out runs/long/glm4v

Its pictures, questions and reasoning: `trajkit/demo/grid.py`, `questions.py`, `procedures.py`. How well it answers, and
what of its failures could be known: `python -m analyses.ceiling --model runs/long/model`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/long/model"), help="where the checkpoint goes")
    parser.add_argument("--work", type=Path, default=None, help="where the training state lives (default: beside it)")
    parser.add_argument("--architecture", default="qwen3_vl", choices=("qwen3_vl", "qwen2_5_vl", "glm4v"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="fuse the text layers with torch.compile")
    parser.add_argument("--quick", action="store_true", help="a few steps into a scratch folder")
    args = parser.parse_args(argv)

    import torch

    from pipelines.demo.architectures import build_model, build_tokenizer, save_checkpoint
    from pipelines.demo.curriculum import QUICK_STAGES, STAGES, Trainer
    from trajkit.progress import progress

    if args.quick:
        args.out = Path(tempfile.mkdtemp(prefix="trajkit-")) / "model"
    stages = QUICK_STAGES if args.quick else STAGES
    torch.manual_seed(args.seed)
    tokenizer = build_tokenizer(args.architecture)
    model = build_model(tokenizer, args.architecture)
    trainer = Trainer(model, tokenizer, args.work or args.out.with_name(f"{args.out.name}-training"), stages, args.seed)
    if trainer.resume():
        print(f"resumed at stage {trainer.stage + 1} of {len(stages)}, step {trainer.step}")
    if args.compile:
        trainer.compile()
    done = sum(s.steps for s in stages[: trainer.stage]) + trainer.step
    with progress("training", total=sum(s.steps for s in stages), completed=done) as bar:
        trainer.run(lambda stage, step, loss, right: bar.advance(f"{stage.name} loss {loss:.3f} right {right:.3f}"))
    save_checkpoint(model, tokenizer, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
