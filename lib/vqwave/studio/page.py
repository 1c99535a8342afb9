"""The page: Gradio's form, which hands what was chosen to the player of `static/studio.js`."""

from __future__ import annotations

from html import escape

import gradio as gr

from ..config import ChainConfig
from ..data.audio import AUDIO_SUFFIXES
from ..errors import UserError
from .takes import LONGEST, LONGEST_COMPARISON, LONGEST_RECORDING, Settings, Studio

HEAD = """
<meta name="color-scheme" content="light dark">
<link rel="stylesheet" href="studio/static/page.css">
<script type="module" src="studio/static/studio.js"></script>
"""
FORMATS = ", ".join(suffix[1:] for suffix in AUDIO_SUFFIXES)
NO_RECORDING = f"Drop in a recording ({FORMATS}), up to {LONGEST_RECORDING / 60:g} minutes."
# The order of these is the order of the form's components below.
FIELDS = ("mode", "recording", "name", "prompt_start", "prompt_seconds", "keep_original", "keep", "seconds", "endless",
          "level", "seed", "weights", "epoch")


def build(studio: Studio):
    """(the page's `gr.Blocks`, how it looks: keyword arguments of `gr.mount_gradio_app`)."""
    folders = list(studio.folders)
    quiet = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    with gr.Blocks(title="VQWave studio", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as blocks:
        gr.HTML("<header class='vq-head'><h1>VQWave</h1><p>Raw audio that a model makes up as you listen.</p></header>")
        with gr.Tabs():
            with gr.Tab("Make music"), gr.Row(elem_classes="vq-columns"):
                with gr.Column(scale=1, min_width=300, elem_classes="vq-form"):
                    form = _form(studio, folders)
                with gr.Column(scale=3, min_width=320):
                    gr.HTML(f"<vq-player data-rate='{studio.rate}'></vq-player>", padding=False)
            with gr.Tab("Codecs"), gr.Row(elem_classes="vq-columns"):
                with gr.Column(scale=1, min_width=300, elem_classes="vq-form"):
                    gr.Markdown("How much of a recording survives each level: the codecs alone, without a generator.")
                    file, identity, name, said = _recording("codec")
                    start = gr.Number(0, label="From second", minimum=0, elem_id="codec-start")
                    seconds = gr.Number(20, label="Seconds to hear", minimum=0.1, maximum=LONGEST_COMPARISON,
                                        elem_id="codec-seconds")
                    folder = gr.Dropdown(folders, value=folders[0], label="Weights", visible=len(folders) > 1)
                    listen = gr.Button("Listen", variant="primary", elem_id="codec-listen")
                with gr.Column(scale=3, min_width=320):
                    gr.HTML("<vq-codecs></vq-codecs>", padding=False)

        file.upload(_receiver(studio), file, [identity, name, said], api_visibility="private",
                    show_progress="minimal", show_progress_on=said)
        file.clear(lambda: ("", "", NO_RECORDING), None, [identity, name, said], **quiet)
        listen.click(None, [identity, name, start, seconds, folder], None, js="""
            (recording, name, start, seconds, weights) =>
                { window.vqwave.listen({recording, name, start, seconds, weights}) }""")
        filled = [form[name] for name in (*FIELDS, "said", "notice", *_temperatures(studio))]
        blocks.load(_filler(studio), None, filled, **quiet)
    return blocks, {"theme": _theme(), "head": HEAD}


def _form(studio: Studio, folders) -> dict:
    """The components by name, with what happens between them."""
    quiet = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    chain = studio.chains[folders[0]]
    form: dict = {"notice": gr.Markdown(visible="hidden", elem_id="notice")}
    form["mode"] = gr.Radio([("New piece", "new"), ("Continue a recording", "continue"), ("Vary a recording", "vary")],
                            value="new", label="What to make", elem_id="mode")
    with gr.Group(elem_id="recorded"):
        file, form["recording"], form["name"], form["said"] = _recording("play")
        with gr.Row(elem_id="prompt"):
            form["prompt_start"] = gr.Number(0, label="From second", minimum=0, min_width=80, elem_id="prompt-start")
            form["prompt_seconds"] = gr.Number(5, label="Seconds of it", minimum=0.1, min_width=80,
                                               elem_id="prompt-seconds")
        form["keep_original"] = gr.Checkbox(True, label="Begin with the recording itself",
                                            info="and not with what the codecs hear of it", elem_id="keep-original")
        form["keep"] = gr.Radio(_keeps(chain), value=chain.top, label="Level to keep",
                                info="Its codes stay; everything finer is made anew.", elem_id="keep")
    with gr.Group():
        form["seconds"] = gr.Number(30, label="Length in seconds", minimum=0.1, maximum=LONGEST, elem_id="seconds")
        form["endless"] = gr.Checkbox(False, label="Until I stop it", elem_id="endless")
    form["level"] = gr.Radio(_levels(chain), value=chain.ending, label="Level to stop at", elem_id="level",
                             info="Each level adds detail, and costs several times the work.")
    form["seed"] = gr.Textbox("", label="Seed", elem_id="seed", placeholder="drawn for you", max_lines=1,
                              info="The same seed and settings are the same music, to the byte.")
    make = gr.Button("Make music", variant="primary", elem_id="make")
    with gr.Accordion("Temperatures", open=False):
        gr.Markdown("Below 1 safer, above 1 wilder, 0 always the likeliest code.")
        for name, level in _temperatures(studio).items():
            form[name] = gr.Slider(0, 2, 1, step=0.01, label=f"Level {level}", elem_id=name,
                                   visible=level in chain.sizes or "hidden")
    with gr.Accordion("Weights", open=False):
        form["weights"] = gr.Dropdown(folders, value=folders[0], label="Folder", elem_id="weights")
        form["epoch"] = gr.Dropdown(_epochs(studio, folders[0]), value="", label="Epoch", elem_id="epoch")

    # The style sheet shows what belongs to a mode: what Gradio takes out of the page takes no value
    # from a link.
    form["mode"].change(None, form["mode"], None, js="(mode) => { document.body.dataset.mode = mode }")
    form["weights"].input(_chooser(studio), form["weights"],
                          [form[name] for name in ("epoch", "level", "keep", *_temperatures(studio))], **quiet)
    said = [form["recording"], form["name"], form["said"]]
    file.upload(_receiver(studio), file, said, api_visibility="private", show_progress="minimal",
                show_progress_on=form["said"])
    file.clear(lambda: ("", "", NO_RECORDING), None, said, **quiet)
    names = (*FIELDS, *_temperatures(studio))
    make.click(None, [form[name] for name in names], None, js=f"""
        (...values) => {{ window.vqwave.make(Object.fromEntries({list(names)!r}.map((name, i) => [name, values[i]]))) }}
    """)
    return form


def _recording(where: str):
    """(where a file is dropped, its id and its name for the player, what is said of it)."""
    file = gr.File(label="Recording", height=150, elem_id=f"{where}-file", elem_classes="vq-drop")
    # Gradio leaves what is not visible out of the page; a player must be able to read these.
    identity = gr.Textbox("", show_label=False, container=False, elem_classes="vq-unseen", elem_id=f"{where}-recording")
    name = gr.Textbox("", show_label=False, container=False, elem_classes="vq-unseen")
    said = gr.Markdown(NO_RECORDING, elem_id=f"{where}-said", elem_classes="vq-said", sanitize_html=True)
    return file, identity, name, said


def _receiver(studio: Studio):
    def receive(path):
        if path is None:
            return "", "", NO_RECORDING
        try:
            got = studio.receive(path)
        except UserError as e:
            return "", "", f"<span class='vq-refused' role='alert'>{escape(str(e))}</span>"
        return got.id, got.name, _here(got.name, got.seconds)

    return receive


def _here(name: str, seconds: float) -> str:
    return f"{escape(name)}: {seconds:.1f} s, ready."


def _filler(studio: Studio):
    """What fills the form from a link."""

    def fill(request: gr.Request):
        given = dict(request.query_params)
        fields = {key: given[key] for key in given if key in Settings.__dataclass_fields__}
        sliders = _temperatures(studio)
        nothing = [gr.skip()] * len(FIELDS)
        if not fields:
            return [*nothing, gr.skip(), gr.skip(), *[gr.skip()] * len(sliders)]
        try:
            settings = studio.settings(fields)
        except UserError as e:
            words = f"<span class='vq-refused' role='alert'>The link cannot be followed. {escape(str(e))}</span>"
            return [*nothing, gr.skip(), gr.update(value=words, visible=True), *[gr.skip()] * len(sliders)]
        chain = studio.chains[settings.weights]
        said, recording = NO_RECORDING, settings.recording
        if recording:
            try:
                said = _here(settings.name, studio.recording(recording, settings.name).seconds)
            except UserError as e:
                said, recording = f"<span class='vq-refused'>{escape(str(e))}</span>", ""
        return [
            settings.mode,
            recording,
            settings.name if recording else "",
            settings.prompt_start,
            settings.prompt_seconds,
            settings.keep_original,
            gr.update(choices=_keeps(chain), value=settings.keep),
            30 if settings.seconds is None else settings.seconds,
            settings.seconds is None,
            gr.update(choices=_levels(chain), value=settings.level),
            str(settings.seed) if "seed" in fields else "",
            settings.weights,
            gr.update(choices=_epochs(studio, settings.weights), value=settings.epoch),
            said,
            gr.skip(),
            *_sliders(studio, chain, dict(zip(settings.chain, settings.temperature, strict=True))),
        ]

    return fill


def _epochs(studio: Studio, folder: str) -> list[tuple[str, str]]:
    """(what is shown, tag) of each set; the first is what one gets without choosing."""
    tags = studio.epochs(folder)
    named = [("best" if tag == "best" else f"epoch {int(tag)}", tag) for tag in tags if tag]
    return [("the shipped set" if "" in tags else "the best set", ""), *named]


def _chooser(studio: Studio):
    """What another folder of weights changes in the form."""

    def choose(folder):
        chain = studio.chains[folder]
        return [gr.update(choices=_epochs(studio, folder), value=""),
                gr.update(choices=_levels(chain), value=chain.ending),
                gr.update(choices=_keeps(chain), value=chain.top), *_sliders(studio, chain, {})]

    return choose


def _sliders(studio: Studio, chain: ChainConfig, temperatures: dict[int, float]) -> list:
    """Each temperature's slider, seen where the chain has its level; those that are not given stay
    as they are.
    """
    return [gr.update(visible=level in chain.sizes or "hidden", **(
        {"value": temperatures[level]} if level in temperatures else {})) for level in _temperatures(studio).values()]


def _levels(chain: ChainConfig) -> list[tuple[str, int]]:
    """(what is shown, level), from the bottom of a chain up."""
    ends = {chain.top: ", coarsest", chain.bottom: ", finest"} if len(chain.sizes) > 1 else {}
    return [(f"{level}x{ends.get(level, '')}", level) for level in reversed(chain.sizes)]


def _keeps(chain: ChainConfig) -> list[tuple[str, int]]:
    """(what is shown, level) of the levels that a variation can keep, from the top down."""
    above = chain.sizes[:-1] or chain.sizes
    ends = {above[-1]: ", nearest", above[0]: ", freest"} if len(above) > 1 else {}
    return [(f"{level}x{ends.get(level, '')}", level) for level in above]


def _temperatures(studio: Studio) -> dict[str, int]:
    """{the slider's name: its level}, of the levels of every chain that can be chosen, from the top
    down.
    """
    levels = {level for chain in studio.chains.values() for level in chain.sizes}
    return {f"temperature-{level}": level for level in sorted(levels, reverse=True)}


def _theme():
    """Gradio's, with the fonts that are there: no page of ours asks another machine for one."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal, neutral_hue=gr.themes.colors.slate, radius_size="md",
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"],
    )
