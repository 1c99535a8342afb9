from vqwave.levels import dump_yaml, to_dict
from vqwave.presets import load_preset

CORES = {"lstm": {"units": 24}, "transformer": {"width": 16, "heads": 2, "hidden_dim": 16},
         "wavenet": {"channels": 8, "skip_channels": 16}, "pixelcnn": {"channels": 8, "kernel_books": 51}}
"""Small sizes for each kind of core."""


def smaller(preset, path):
    """A small preset of the same kinds, written to `path`; only soundstream keeps an adversary."""
    def codec(model):
        stages = [one | {"channels": 8, "dilations": one["dilations"][:1]}
                  for one in model["stages"]]
        small = {"num_codes": 16, "code_dim": 8, "dim": 4, "shrink_steps": 2}
        quantizer = {key: small.get(key, value) for key, value in model["quantizer"].items()}
        bottleneck = {key: {"heads": 2, "back": 4, "memories": 8, "steps": 2}.get(key, value)
                      for key, value in model["bottleneck"].items()}
        block = {key: {"depth": 2}.get(key, value) for key, value in model["block"].items()}
        head = {key: {"steps": 2}.get(key, value) for key, value in model["head"].items()}
        adversary = model["adversary"] if preset.name == "soundstream" else None
        if adversary:
            adversary |= {"discriminators": adversary["discriminators"][-2:]}
        return model | {"adversary": adversary, "stages": stages, "block": block, "quantizer": quantizer,
                        "bottleneck": bottleneck, "head": head}

    def generator(model):
        conditions = [one | {"num_codes": 16, "channels": 12, "dilations": [1, 2]}
                      for one in model["conditions"]]
        core = model["core"] | {"embedding_dim": 8, "head_dim": 16} | CORES[model["core"]["kind"]]
        small = {"layers": 2, "dilations": [1, 2]}
        core |= {key: value for key, value in small.items() if key in core}
        return model | {"num_codes": 16, "core": core, "conditions": conditions}

    def role(names, shrink):
        return {name: shrink(to_dict(preset.models[name])) for name in names}

    chain = preset.chain
    path.write_text(dump_yaml({
        "chain": to_dict(chain), "data": to_dict(preset.data),
        "codecs": role(chain.codecs.values(), codec),
        "generators": role(chain.generators.values(), generator)}), encoding="utf-8")
    return load_preset(path)
