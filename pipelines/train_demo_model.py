"""Train the embedded demo model and save it as a Hugging Face checkpoint.

    python -m pipelines.train_demo_model                  # an hour and a half on a core, minutes on a GPU; resumes
    python -m pipelines.train_demo_model --workers 8      # batches drawn beside the training, where cores are free
    python -m pipelines.train_demo_model --compile        # a fifth faster where a C++ compiler is installed
    python -m pipelines.train_demo_model --quick          # seconds; an untrained stand-in in a scratch folder

    python -m pipelines.train_demo_model --architecture glm4v --out data/demo/glm4v --work runs/train_glm4v

Writes data/demo/model, or a model of another architecture. A GPU is used where there is one. What it writes imitates;
`python -m pipelines.reinforce_demo_model` goes on from there. Accuracy: `python -m analyses.demo_model`. What of its
failures could be known: `python -m analyses.ceiling`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/demo/model"), help="where the checkpoint goes")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/train_demo_model"), help="where the training state lives"
    )
    parser.add_argument("--architecture", default="qwen3_vl", choices=("qwen3_vl", "qwen2_5_vl", "glm4v"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw batches beside the training")
    parser.add_argument("--compile", action="store_true", help="fuse the text layers with torch.compile")
    parser.add_argument("--quick", action="store_true", help="a few steps into a scratch folder")
    args = parser.parse_args(argv)

    import torch

    from pipelines.demo.curriculum import QUICK_STAGES, STAGES, trainer
    from pipelines.demo.model import build_model, build_tokenizer, save_checkpoint
    from trajkit.progress import progress

    if args.quick:
        scratch = Path(tempfile.mkdtemp(prefix="trajkit-"))
        args.out, args.work = scratch / "model", scratch / "work"
    stages = QUICK_STAGES if args.quick else STAGES
    torch.manual_seed(args.seed)
    tokenizer = build_tokenizer(args.architecture)
    model = build_model(tokenizer, args.architecture)
    training = trainer(model, tokenizer, args.work, stages, args.seed, args.workers)
    if training.resume():
        print(f"resumed at stage {training.stage + 1} of {len(stages)}, step {training.step}")
    if args.compile:
        training.compile()
    done = sum(s.steps for s in stages[: training.stage]) + training.step
    with progress("training", total=sum(s.steps for s in stages), completed=done) as bar:
        training.run(lambda stage, step, loss, right: bar.advance(f"{stage.name} loss {loss:.3f} right {right:.3f}"))
    save_checkpoint(model, tokenizer, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
