"""Train the embedded demo model and save it as a Hugging Face checkpoint.

    python -m pipelines.train_demo_model                  # about 80 minutes on 2 cores, resumes where it stopped
    python -m pipelines.train_demo_model --compile        # a fifth faster where a C++ compiler is installed
    python -m pipelines.train_demo_model --quick          # seconds; an untrained stand-in in a scratch folder

    python -m pipelines.train_demo_model --architecture glm4v --out data/demo/glm4v --work runs/train_glm4v
    python -m pipelines.train_demo_model --long           # about an hour and a half on a core; writes runs/long/model

Writes data/demo/model, or a smaller model of another architecture with a shorter training. A GPU is used where there
is one. Accuracy: `python -m analyses.demo_model`. How models of the long world answer, and what of their failures could
be known: `python -m analyses.ceiling --model runs/long/model`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="a model of the long world")
    parser.add_argument("--out", type=Path, help="where the checkpoint goes (data/demo/model; --long: runs/long/model)")
    parser.add_argument(
        "--work", type=Path, help="where the training state lives (runs/train_demo_model; --long: runs/long/training)"
    )
    parser.add_argument("--architecture", default="qwen3_vl", choices=("qwen3_vl", "qwen2_5_vl", "glm4v"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="fuse the text layers with torch.compile")
    parser.add_argument("--quick", action="store_true", help="a few steps into a scratch folder")
    args = parser.parse_args(argv)

    import torch

    from pipelines.demo import curriculum, training
    from pipelines.demo.model import LONG, SHORT, build_model, build_tokenizer, save_checkpoint
    from trajkit.progress import progress

    if args.quick:
        scratch = Path(tempfile.mkdtemp(prefix="trajkit-"))
        args.out, args.work = scratch / "model", scratch / "work"
    out, work = ("runs/long/model", "runs/long/training") if args.long else ("data/demo/model", "runs/train_demo_model")
    out, work = args.out or Path(out), args.work or Path(work)
    world, layout = (curriculum, LONG) if args.long else (training, SHORT)
    small = not args.long and args.architecture != "qwen3_vl"
    stages = world.QUICK_STAGES if args.quick else training.SMALL_STAGES if small else world.STAGES
    torch.manual_seed(args.seed)
    tokenizer = build_tokenizer(args.architecture, layout)
    model = build_model(tokenizer, args.architecture, layout)
    trainer = world.trainer(model, tokenizer, work, stages, args.seed)
    if trainer.resume():
        print(f"resumed at stage {trainer.stage + 1} of {len(stages)}, step {trainer.step}")
    if args.compile:
        trainer.compile()
    done = sum(s.steps for s in stages[: trainer.stage]) + trainer.step
    with progress("training", total=sum(s.steps for s in stages), completed=done) as bar:
        trainer.run(lambda stage, step, loss, right: bar.advance(f"{stage.name} loss {loss:.3f} right {right:.3f}"))
    save_checkpoint(model, tokenizer, out, layout)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
