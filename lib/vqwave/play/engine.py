"""What plays: one object per model, the same for every engine, numpy in and numpy out.

`onnx` samples with int8 weights and `onnx-float32` with float32 weights. Both use ONNX Runtime, and
need no TensorFlow once their graphs are cached. `keras` is the reference, and runs on GPUs.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from .. import stderr
from ..config import PERIOD, Sampling
from ..data import chunking
from ..data.vocoders import vocoder
from ..errors import UserError
from ..onnx import export
from ..onnx.loops import loop_kind, precision
from . import sampling
from .labels import Mixture, find_labels, read_labels
from .sampling import loop_settings

ENGINES = ("onnx", "onnx-float32", "keras")


def load_codec(weight_set, engine: str = "onnx") -> CodecEngine:
    """The codec of a set. Raises `UserError` where no engine has that name."""
    return {"keras": _KerasCodec}.get(check_engine(engine), _OnnxCodec)(weight_set, engine)


def load_generator(weight_set, engine: str = "onnx") -> GeneratorEngine:
    """The generator of a set. Raises `UserError` where no engine has that name."""
    return {"keras": _KerasGenerator}.get(check_engine(engine), _OnnxGenerator)(weight_set, engine)


def check_engine(engine: str) -> str:
    """`engine`. Raises `UserError` where there is none of that name."""
    if engine not in ENGINES:
        raise UserError(f"no engine is called {engine!r}; there are {', '.join(ENGINES)}")
    return engine


def check_chain(codec, generators, kept: int = 0):
    """Each generator continues the one above it, and the last makes what `codec` decodes.

    Args:
        codec, generators: anything with a `.config`; the top of the chain first.
        kept: the level whose codes the first is given, 0 where it begins the chain.

    Raises:
        UserError: two of them do not fit; it prints both sides.
    """
    if not generators:
        raise UserError("a chain needs at least one generator")
    configs = [g.config for g in generators]
    if configs[0].source_level != kept:
        given = f"level {kept} is what is kept" if kept else "the chain begins with it"
        raise UserError(f"{configs[0].name} reads level {configs[0].source_level}, but {given}")
    for above, below in pairwise(configs):
        if below.source_level != above.level:
            raise UserError(f"{below.name} reads level {below.source_level}, but {above.name} "
                            f"makes {above.level}")
        check_source(below, above)
    labelled = [c for c in configs if c.labels]
    for above, below in pairwise(labelled):
        ours, theirs = below.labels, above.labels
        if (ours.of, ours.names) != (theirs.of, theirs.names):
            raise UserError(f"{below.name} has {ours.summary}, but {above.name} has "
                            f"{theirs.summary}: a chain is told one label")
    check_codec(generators[-1], codec)


def check_codec(generator, codec):
    """The generator makes what the codec of its level does. Raises `UserError` with both sides."""
    ours, theirs = generator.config, codec.config
    if (ours.level, ours.num_codes, ours.books) != (theirs.level, theirs.num_codes, theirs.books):
        raise UserError(f"{theirs.name} decodes {_frame(theirs)} of level {theirs.level}, "
                        f"but {ours.name} makes {_frame(ours)} of level {ours.level}")


def check_learnt(codecs, generators):
    """Raises `UserError` where generators have learnt the codes of other runs than the codecs are
    of that they play with, or than one another: codes mean something else then.

    A later step of a run changes its codes little.

    Args:
        codecs, generators: the `WeightSet`s; of codecs those alone that decode, or encode what a
            piece begins with.
    """
    known = {found.name: (_run(found.codes_id), f"the one in {found.folder}") for found in codecs}
    for found in generators:
        for name, codes_id in (found.record.get("codecs") or {}).items():
            run, whose = known.setdefault(name, (_run(codes_id), f"that of {found.name}"))
            if run and _run(codes_id) not in ("", run):
                raise UserError(f"{found.name} in {found.folder} has learnt the codes of another "
                                f"{name} than {whose}; it plays with that one, or once it is "
                                f"trained on these")


def _run(codes_id: str) -> str:
    """The run that codes are of; "" where a set does not say."""
    return codes_id.rpartition(":")[0]


def check_source(below, above):
    """The generator `below` reads what `above`, a codec or generator, makes. Raises `UserError`
    with both sides.
    """
    source = below.source
    if (source.num_codes, source.books) != (above.num_codes, above.books):
        raise UserError(f"{below.name} reads {_frame(source)}, but {above.name} makes "
                        f"{_frame(above)}")


def _frame(config) -> str:
    return (f"{config.num_codes} codes" if config.books == 1
            else f"{config.books} books of {config.num_codes} codes")


class CodecEngine:
    """audio <-> codes at one level; `config` is its `CodecConfig`, `weight_set` and `engine` what
    made it.

    Where the codec has no codes a frame is a vector instead: float32 [batch, N, dim] in the place
    of int32 [batch, N, books]. label: what the piece is, of a codec that was trained with labels;
    any way that `labels.read_labels` reads, None for no label.
    """

    rows: int | None = None
    """Rows of a batch that one run of the decoder takes fastest; None: all of them. Rows decoded
    together or apart are the same, bit for bit, where this is a number.
    """

    def __init__(self, weight_set, engine: str):
        self.config, self.weight_set, self.engine = weight_set.config, weight_set, engine
        self._finish = vocoder(self.config)

    def encode(self, audio, label=None) -> np.ndarray:
        """audio float32 [batch, T] in [-1, 1] -> codes int32 [batch, ceil(T / level), books], in
        constant memory.

        Raises:
            UserError: the codec knows no such label.
        """
        segment = self.config.quantizer.segment
        return chunking.encode(functools.partial(self.encode_window, label=label), audio,
                               self.config.level, self.encode_halo, segment=segment)

    def decode(self, codes, label=None) -> np.ndarray:
        """codes int32 [batch, N, books] -> audio float32 [batch, N·level], in constant memory.

        A residual codec takes any number of its first books.

        Raises:
            UserError: the codec knows no such label.
        """
        codes = np.asarray(codes, self.config.frame_dtype)
        return chunking.decode(functools.partial(self.decode_window, label=label), codes,
                               self.config.level, self.decode_halo)

    @property
    def encode_halo(self) -> int:
        """Codes' worth of samples to either side that one code can see."""
        raise NotImplementedError

    @property
    def decode_halo(self) -> int:
        """Codes to either side that one code's samples can see."""
        raise NotImplementedError

    def encode_window(self, audio, label=None) -> np.ndarray:
        """One run of the encoder: float32 [batch, n·level] -> int32 [batch, n, books]."""
        return self._encode([np.asarray(audio, np.float32), *self._told(label, len(audio))])

    def _encode(self, given: list[np.ndarray]) -> np.ndarray:
        """What the encoder makes of its inputs."""
        raise NotImplementedError

    def decode_window(self, codes, start: int = 0, label=None) -> np.ndarray:
        """One run of the decoder: int32 [batch, n, books] -> float32 [batch, n·level].

        start: the number of the first of these codes in the piece, which tones and noise are a
            function of.
        """
        given = [*self._decoder_inputs(codes, start), *self._told(label, len(codes))]
        return self._finish(self._decode(given))

    def _decode(self, given: list[np.ndarray]) -> np.ndarray:
        """What the decoder makes of its inputs: audio, or what the codec's vocoder takes."""
        raise NotImplementedError

    def decode_part(self, codes, start: int, first: int, count: int) -> np.ndarray:
        """Of what `decode_window` makes, frames number first … first + count − 1 of these: float32
        [batch, count·level], fewer where the codes end before.
        """
        level = self.config.level
        return self.decode_window(codes, start)[:, first * level : (first + count) * level]

    @property
    def latency(self) -> float:
        """Seconds of a piece that must be there before the first of it can be heard, however fast
        the machine is.
        """
        return self._latency() / self.config.sample_rate

    def _latency(self) -> int:
        raise NotImplementedError

    def in_blocks(self, batch: int = 1) -> CodecBlocks:
        """A piece, or `batch` of them side by side, as it comes. Raises `UserError` where the codec
        is not causal.
        """
        if not self.config.in_blocks:
            raise UserError(f"{self.config.name} has a padding of {self.config.padding} and sees "
                            f"what comes later; block by block go codecs whose padding is causal")
        return CodecBlocks(self, batch)

    def state_size(self, kind: str) -> int:
        """How many numbers one row of `encode_block`'s or `decode_block`'s state has."""
        raise NotImplementedError

    def run_block(self, kind: str, block, state) -> tuple[np.ndarray, np.ndarray]:
        """One run of `encode_block` (float32 [batch, n·level] -> codes int32 [batch, n, books]) or
        `decode_block` (the way back), and the state after it, float32 [batch, state_size].
        """
        raise NotImplementedError

    def _told(self, label, batch: int) -> list[np.ndarray]:
        """The input of labels, int32 [batch, 1, n, 2]; none where the codec has none."""
        if self.config.labels is None and not label:
            return []
        shares = read_labels(label, find_labels([self.config]), batch)
        return [Mixture.constant(shares).pairs(0, 1)]

    def _decoder_inputs(self, codes, start: int) -> list[np.ndarray]:
        codes = np.asarray(codes, self.config.frame_dtype)
        if not self.config.needs_position:
            return [codes]
        return [codes, np.full(len(codes), start % (PERIOD // self.config.level), np.int32)]


class CodecBlocks:
    """Pieces that come in blocks, through a causal codec: what it makes is what it makes of the
    whole.

    held, encoding, decoding: all that it remembers, float32 arrays; a copy of them goes on from
    there.
    """

    def __init__(self, codec: CodecEngine, batch: int):
        self.codec = codec
        self.held = np.zeros((batch, 0), np.float32)
        self.encoding, self.decoding = (
            np.zeros((batch, codec.state_size(kind)), np.float32)
            for kind in ("encode_block", "decode_block"))

    def encode(self, audio) -> np.ndarray:
        """The next samples float32 [batch, n], any n -> int32 [batch, m, books], the codes of the
        frames that they end.
        """
        audio = np.concatenate([self.held, np.asarray(audio, np.float32)], axis=1)
        level = self.codec.config.level
        whole = audio.shape[1] // level * level
        self.held = audio[:, whole:]
        if not whole:
            config = self.codec.config
            return np.zeros((len(audio), 0, config.frame_width), config.frame_dtype)
        codes, self.encoding = self.codec.run_block("encode_block", audio[:, :whole], self.encoding)
        return codes

    def decode(self, codes) -> np.ndarray:
        """The next codes int32 [batch, n, books], n at least 1 -> float32 [batch, n·level]."""
        codes = np.asarray(codes, self.codec.config.frame_dtype)
        audio, self.decoding = self.codec.run_block("decode_block", codes, self.decoding)
        return audio


class GeneratorEngine:
    """Codes of one level, a chunk at a time; `config` is its `GeneratorConfig`, the rest as in
    `CodecEngine`.
    """

    precision = "float32"
    """The number format of the weights."""

    def __init__(self, weight_set, engine: str):
        self.config, self.weight_set, self.engine = weight_set.config, weight_set, engine

    def context(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The conditions' inputs by name -> context float32 [batch, n, context_channels].

        The level above is "source", int32 [batch, N + 2·halo, books above]: n is N·ratio. Without
        it n may be 1, for all frames.
        """
        given = {}
        for condition in self.config.conditions:
            if condition.input not in inputs:
                raise UserError(f"{self.config.name} reads {condition.input!r}, which is not given "
                                f"here")
            given[condition.input] = np.asarray(inputs[condition.input], np.int32)
        return self._context(given)

    def _context(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        raise NotImplementedError

    def initial_state(self, batch: int) -> list[np.ndarray]:
        """Zeros float32 [batch, …], one array for each of the core's states."""
        shapes = self.config.states
        return [np.zeros((batch, *shape), np.float32) for shape in shapes.values()]

    def sample(self, context, uniforms, previous, state, sampling: Sampling | None = None,
               forced=None,
               log_probs: bool = True, bias=None):
        """n steps: (codes int32 [B, n, books], log_probs float32 of that shape or None, state).

        Args:
            context: float32 [B, n, C], None without conditions. Where the sampling is guided, it
                and the state have 2·B rows: those with labels, then those without.
            uniforms: float32 [B, n, books] in [0, 1).
            previous: int32 [B, books], the frame before the first; `config.start_token` where a
                piece begins.
            state: as `initial_state`.
            sampling: None is the generator's own. Temperature 0: the likeliest code.
            forced: int32 [B, n, books], a code that is given instead of drawn, or -1.
            log_probs: whether to return the natural log of each code's probability under what it
                was drawn from.
            bias: float32 [books, codes], added to the logits before the temperature; None: zeros.
        """
        sampling = sampling or self.config.sampling
        inverse, top_k, top_p = loop_settings(sampling)
        guided = self.config.is_guided(sampling)
        uniforms = np.asarray(uniforms, np.float32)
        feeds = {
            "uniforms": np.ascontiguousarray(uniforms.swapaxes(0, 1)),
            "previous": np.asarray(previous, np.int32),
            "inverse_temperature": np.array(inverse, np.float32),
        }
        if self.config.conditions:
            by_step = np.swapaxes(np.asarray(context, np.float32), 0, 1)
            feeds["context"] = np.ascontiguousarray(by_step)
        full = (log_probs or forced is not None or top_k > 0 or top_p < 1
                or bias is not None or guided)
        if full:
            forced = (np.full(uniforms.shape, -1, np.int32) if forced is None
                      else np.asarray(forced, np.int32))
            if forced.size and forced.max() >= self.config.num_codes:
                raise ValueError(f"forced holds {forced.max()}; codes are less than "
                                 f"{self.config.num_codes}")
            feeds["forced"] = np.ascontiguousarray(forced.swapaxes(0, 1))
            shape = self.config.books, self.config.num_codes
            bias = np.zeros(shape, np.float32) if bias is None else np.asarray(bias, np.float32)
            if bias.shape != shape:
                raise ValueError(f"bias is {list(bias.shape)}; it must be {list(shape)}")
            feeds |= {"top_k": np.array(top_k, np.int64), "top_p": np.array(top_p, np.float32),
                      "bias": bias}
        if guided:
            feeds["guidance"] = np.array(sampling.guidance, np.float32)
        codes, chosen, state = self._run(feeds,
                                         [np.ascontiguousarray(s, np.float32) for s in state], full)
        chosen = np.ascontiguousarray(chosen.swapaxes(0, 1)) if log_probs else None
        return np.ascontiguousarray(codes.swapaxes(0, 1)), chosen, state

    def _run(self, feeds, state, full):
        """(codes [n, B, books], log_probs [n, B, books], state) from feeds with time first.

        Not `full`: neither forced codes nor a filter nor a bias are fed, and log_probs may be None.
        """
        raise NotImplementedError


# --- ONNX Runtime ---------------------------------------------------------------------------------


def session(graph: bytes, arena: bool = True):
    """An ONNX Runtime session that keeps to the thread it is called from, so that levels can run
    side by side.

    Without the arena a loop, whose tensors are small, runs 3 % faster; a convolution, whose are
    large, runs slower.
    """
    # From 1.29 on it otherwise reports each session to its makers, from threads of its own, for
    # which memory grows too.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class _OnnxCodec(CodecEngine):
    rows = 2  # what the layers between convolutions read and write then stays in the caches

    def __init__(self, weight_set, engine):
        super().__init__(weight_set, engine)
        self._graphs = _Graphs(weight_set)

    @property
    def encode_halo(self):
        return self._graphs.fact("encode", "encode_halo")

    @property
    def decode_halo(self):
        # Both graphs know it; streams open the first.
        return self._graphs.fact("decode_part" if self.config.can_decode_part else "decode",
                                 "decode_halo")

    def _encode(self, given):
        return self._graphs("encode", *given)

    def _decode(self, given):
        return self._graphs("decode", *given)

    def decode_part(self, codes, start, first, count):
        if not self.config.can_decode_part:
            return super().decode_part(codes, start, first, count)
        near, level = self._graphs.fact("decode_part", "decode_near"), self.config.level
        begin = max(0, first - near)
        places = np.arange(begin, min(first + count + near, codes.shape[1]), dtype=np.int32)
        codes, *start = self._decoder_inputs(codes, start)
        made = self._graphs("decode_part", codes, np.tile(places, (len(codes), 1)), *start)
        return made[:, (first - begin) * level : (first + count - begin) * level]

    def _latency(self):
        return self._graphs.fact("encode", "latency")

    def state_size(self, kind):
        return self._graphs.fact(kind, "state")

    def run_block(self, kind, block, state):
        opened = self._graphs.session(kind)
        names = (x.name for x in opened.get_inputs())
        return tuple(opened.run(None, dict(zip(names, (block, state), strict=True))))


class _OnnxGenerator(GeneratorEngine):
    def __init__(self, weight_set, engine):
        super().__init__(weight_set, engine)
        self._graphs = _Graphs(weight_set)
        self.precision = precision(engine)
        self.states = list(self.config.states)

    def _context(self, inputs):
        return self._graphs.session("context").run(None, inputs)[0]

    def _run(self, feeds, state, full):
        feeds |= dict(zip(self.states, state, strict=True))
        guided = "guidance" in feeds
        streams = len(feeds["previous"]) * (1 + guided)
        loop = self._graphs.session(loop_kind(self.precision, streams, full, guided))
        codes, *rest = loop.run(None, feeds)
        return (codes, rest[0], rest[1:]) if full else (codes, None, rest)


_opening = threading.Lock()


class _Graphs:
    """The sessions of a set, each opened when it is first wanted."""

    def __init__(self, weight_set):
        self.weight_set, self.sessions = weight_set, {}

    def session(self, kind: str):
        if kind not in self.sessions:
            # Levels run side by side, and an export silences the whole process while it
            # lasts.
            with _opening:
                if kind not in self.sessions:
                    graph = export.cached_graph(self.weight_set, kind)
                    self.sessions[kind] = session(graph, arena=not kind.startswith("loop"))
        return self.sessions[kind]

    def fact(self, kind: str, key: str) -> int:
        """A number that a graph's metadata hold."""
        return int(self.session(kind).get_modelmeta().custom_metadata_map[key])

    def __call__(self, kind: str, *given: np.ndarray) -> np.ndarray:
        """Run a graph of one output, its inputs in their order."""
        opened = self.session(kind)
        return opened.run(None, {x.name: array
                                 for x, array in zip(opened.get_inputs(), given, strict=True)})[0]


# --- Keras ----------------------------------------------------------------------------------------


def _runnable(model):
    """Run as a graph, but not through XLA, which would compile for minutes each time a length is
    new.
    """
    model.compile(jit_compile=False)
    return model


class _KerasCodec(CodecEngine):
    def __init__(self, weight_set, engine):
        super().__init__(weight_set, engine)
        stderr.import_keras()
        from ..nn.codec import load_codec

        model = load_codec(weight_set)
        self._halos, self._samples_ahead = (model.encode_halo, model.decode_halo), model.latency
        self._encoder = _runnable(model.encode_model())
        self._decoder = _runnable(model.decode_model())
        self._blocks = {}
        if self.config.in_blocks:
            self._blocks = {"encode_block": _runnable(model.encode_block_model()),
                            "decode_block": _runnable(model.decode_block_model())}

    @property
    def encode_halo(self):
        return self._halos[0]

    @property
    def decode_halo(self):
        return self._halos[1]

    def _encode(self, given):
        return np.asarray(self._encoder.predict_on_batch(given if len(given) > 1 else given[0]))

    def _decode(self, given):
        return np.asarray(self._decoder.predict_on_batch(given if len(given) > 1 else given[0]))

    def _latency(self):
        return self._samples_ahead

    def state_size(self, kind):
        return self._blocks[kind].inputs[1].shape[-1]

    def run_block(self, kind, block, state):
        made = self._blocks[kind].predict_on_batch([block, state])
        return tuple(np.asarray(one) for one in made)


class _KerasGenerator(GeneratorEngine):
    def __init__(self, weight_set, engine):
        super().__init__(weight_set, engine)
        stderr.import_keras()
        from ..nn.generator import load_generator

        self._model = load_generator(weight_set)
        self._loops = {}
        if self._model.conditions:
            self._contexts = _runnable(self._model.context_model())

    def _context(self, inputs):
        given = list(inputs.values())
        return np.asarray(self._contexts.predict_on_batch(given if len(given) > 1 else given[0]))

    def _run(self, feeds, state, full):
        kind = full and bool(feeds["top_k"] or feeds["top_p"] < 1), "guidance" in feeds
        if kind not in self._loops:
            self._loops[kind] = sampling.keras_loop(self._model, *kind)
        feeds.setdefault("forced", np.full(feeds["uniforms"].shape, -1, np.int32))
        shape = self.config.books, self.config.num_codes
        feeds.setdefault("bias", np.zeros(shape, np.float32))
        # Keras wants a batch axis on every input.
        for name in ("inverse_temperature", "top_k", "top_p", "guidance"):
            if name in feeds:
                feeds[name] = feeds[name].reshape(1)
        loop = self._loops[kind]
        codes, log_probs, state = loop.predict_on_batch(feeds | {"state": state})
        return codes, log_probs, list(state)
