"""One processor core for a thread that computes beside a generation.

torch shares each operation on the CPU among the threads of an OpenMP team, and each Python thread has a team of its
own. As soon as the teams have more threads than there are cores, OpenMP no longer waits for work at the ready but goes
to sleep after every operation, in all of them, for as long as the second team lives: decoding, which is thousands of
short operations a token, becomes a third slower while the other thread does nothing at all.
"""

from __future__ import annotations

from threading import Lock, Thread

import torch

_lock = Lock()


def on_one_core() -> None:
    """Have what torch does in the calling thread from now on use one core; other threads, also later ones, are as they
    were."""
    with _lock:
        usual = torch.get_num_threads()  # settles what this thread has, or the next line would not last
        torch.set_num_threads(1)  # of this thread, and of those that have not begun
        others = Thread(target=torch.set_num_threads, args=(usual,))
        others.start()
        others.join()
