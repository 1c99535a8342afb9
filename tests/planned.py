"""Records the tasks of a plan instead of running them in processes."""

from types import SimpleNamespace

from vqwave.train import run_plan


def described(function, args) -> SimpleNamespace:
    """The arguments of a task by name, and its `kind`: "train", "judge" or "report"."""
    if function is run_plan.train_model:
        settings, data_dir, codec_dir, _, scheduler = args
        return SimpleNamespace(kind="train", name=settings.model.name, data_dir=data_dir, codec_dir=codec_dir,
                               scheduler=scheduler, **settings._asdict())
    _, _, split, *rest = args
    return SimpleNamespace(kind=getattr(function, "func", function).__name__, split=split, rest=rest,
                           musicnn=(*getattr(function, "args", ()), None)[0])


def record(monkeypatch, end):
    """Let `end(task, spend)` -> (exit code, value) stand for each task."""
    class Task:
        exit_code = 0

        def __init__(self, function, *args):
            self.task = described(function, args)

        def wait(self, spend):
            code, self.value = end(self.task, spend)
            return code

        def receive_value(self):
            return self.value

    monkeypatch.setattr(run_plan, "Task", Task)
