"""Records the tasks of a plan instead of running them in processes."""


from vqwave.train import run_plan


def words(function, args) -> list[str]:
    if function is run_plan.train_model:
        settings, data_dir, folder, _, scheduler = args
        role, options = settings.model.kind, settings.options
        line = [f"train-{role}", "--model" if role == "codec" else "--generator", settings.model.name,
                "--data-dir", data_dir, "--output-dir", options.output_dir]
        optional = {"--start-from": options.start_from, "--minutes": options.minutes,
                    "--scheduler": scheduler,
                    "--vqvae-weights-dir": None if role == "codec" else folder,
                    "--performer": options.performer,
                    "--label": settings.model.labels and settings.model.labels.of}
        optional |= {f"--{key.replace('_', '-')}": getattr(settings.training, key)
                     for key in options.set_by_user if hasattr(settings.training, key)}
        for flag, value in optional.items():
            line += [] if value is None else [flag, value]
        line += ["--decoder-only"] * options.decoder_only + ["--promote"] * options.promote
        line += ["--fp16"] * bool(settings.training.mixed_precision)
    else:
        name = getattr(function, "func", function).__name__
        data_dir, folder, split, *rest = args
        line = [name, "--data-dir", data_dir, "--output-dir", folder, "--val-split", split]
        line += {"judge": lambda: ["--model", ",".join(rest[0])],
                 "report": lambda: ["--html", rest[0]]}[name]()
        line += ["--musicnn", *function.args] if getattr(function, "args", (None,)) != (None,) else []
    return [str(word) for word in line]


def option(line, flag):
    return line[line.index(flag) + 1] if flag in line else None


def record(monkeypatch, end):
    """Let `end(words of a task, spend)` -> (exit code, value) stand for each task."""
    class Task:
        exit_code = 0

        def __init__(self, function, *args):
            self.line = words(function, args)

        def wait(self, spend):
            code, self.value = end(self.line, spend)
            return code

        def receive_value(self):
            return self.value

    monkeypatch.setattr(run_plan, "Task", Task)
