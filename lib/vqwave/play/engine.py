"""Engines: a trained model with an interface in NumPy, played by ONNX Runtime. They need no
TensorFlow once their graphs are cached.

`onnx-float32` samples with float32 weights. `onnx` does, too, except that the weights of cores with
large matrices are int8 (`CoreConfig.int8`).
"""

import os
import threading
from collections.abc import Mapping
from functools import cached_property, partial
from itertools import pairwise

import numpy as np

from ..codecs import PERIOD
from ..data import chunking, melody
from ..data.vocoders import vocoder
from ..errors import UserError, check_name
from ..export import export
from ..export.loops import loop_kind, precision
from ..generators import Sampling
from ..levels import level_name
from .labels import Mixture, find_labels, read_labels
from .sampling import loop_settings

ENGINES = ("onnx", "onnx-float32")


def check_chain(codec, generators, kept: int = 0):
    """Raises `UserError` if a generator does not fit the generator above it, or the last generator
    does not fit `codec`. kept: the level that the first generator reads; 0: it is the top.
    """
    if not generators:
        raise UserError("a chain needs at least one generator")
    configs = [g.config for g in generators]
    if configs[0].source_level != kept:
        above = (f"the variation keeps level {level_name(kept)}" if kept
                 else "no level stands above it in this chain")
        raise UserError(f"{configs[0].name} reads level {level_name(configs[0].source_level)}, but "
                        f"{above}")
    for above, below in pairwise(configs):
        if above.level not in below.reads:
            reads = " and ".join(map(level_name, below.reads)) or "no level"
            raise UserError(f"{below.name} reads {reads}, but {above.name} makes "
                            f"{level_name(above.level)}")
        if below.source:
            check_source(below, above)
    for above, below in pairwise(c for c in configs if c.labels):
        ours, theirs = below.labels, above.labels
        if (ours.of, ours.names) != (theirs.of, theirs.names):
            raise UserError(f"{below.name} has {ours.summary}, but {above.name} has "
                            f"{theirs.summary}: a chain has one vocabulary")
    check_codec(generators[-1], codec)


def check_codec(generator, codec):
    """Raises `UserError` if level, codes or books of the generator differ from the codec's."""
    ours, theirs = generator.config, codec.config
    if (ours.level, ours.num_codes, ours.books) != (theirs.level, theirs.num_codes, theirs.books):
        raise UserError(f"{theirs.name} decodes {_frame(theirs)} of {level_name(theirs.level)}, "
                        f"but {ours.name} makes {_frame(ours)} of {level_name(ours.level)}")


def check_source(below, above):
    """Raises `UserError` if generator `below` reads other codes or books than `above` makes."""
    source = below.source
    if (source.num_codes, source.books) != (above.num_codes, above.books):
        raise UserError(f"{below.name} reads {_frame(source)}, but {above.name} makes "
                        f"{_frame(above)}")


def _frame(config) -> str:
    return (f"{config.num_codes} codes" if config.books == 1
            else f"{config.books} books of {config.num_codes} codes")


def check_trained_on(codecs, generators):
    """Raises `UserError` if the generators were trained on codes from different codecs, or from
    other codecs than `codecs`. Two checkpoints of one training run count as one codec. Takes
    `WeightSet`s.
    """
    def run_of(codes_id: str) -> str:  # "" if the weights do not record their run
        return codes_id.rpartition(":")[0]

    runs = {codec.name: (run_of(codec.codes_id), f"the one in {codec.folder}") for codec in codecs}
    for generator in generators:
        for name, codes_id in (generator.record.get("codecs") or {}).items():
            run, whose = runs.setdefault(name, (run_of(codes_id), f"that of {generator.name}"))
            if run and run_of(codes_id) not in ("", run):
                raise UserError(f"{generator.name} in {generator.folder} was trained on codes from "
                                f"a different {name} than {whose}; use the codec it was trained "
                                f"with")


def session(graph: bytes, arena: bool = True):
    """An ONNX Runtime session that runs in the calling thread, so that levels can run in parallel.
    Loops run 3 % faster without the memory arena, convolutions slower.
    """
    # ONNX Runtime from 1.29 on sends telemetry for each session, from background threads that use
    # memory.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


_opening = threading.Lock()


class Engine:
    """The ONNX Runtime sessions of a model's graphs, each opened at its first use."""

    def __init__(self, weight_set, engine: str = ENGINES[0]):
        self.config, self.weight_set = weight_set.config, weight_set
        self.engine = check_name("engine", engine, ENGINES)
        self._sessions = {}

    def _session(self, kind: str):
        if kind not in self._sessions:
            # Levels run in parallel threads, but an export mutes stderr for the whole process.
            with _opening:
                if kind not in self._sessions:
                    graph = export.cached_graph(self.weight_set, kind)
                    try:
                        self._sessions[kind] = session(graph, arena=not kind.startswith("loop"))
                    except Exception as e:  # the errors of ONNX Runtime have no class in common
                        raise UserError(f"{self.config.name}: its {kind} graph cannot be opened: "
                                        f"{' '.join(str(e).split())}") from e
        return self._sessions[kind]

    def _fact(self, kind: str, key: str) -> int:
        """A number from a graph's metadata."""
        return int(self._session(kind).get_modelmeta().custom_metadata_map[key])

    def _run(self, kind: str, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs of a graph. inputs: in the graph's order."""
        names = [x.name for x in self._session(kind).get_inputs()]
        return self._session(kind).run(None, dict(zip(names, inputs, strict=True)))


class CodecEngine(Engine):
    """audio <-> codes at one level; `config` is its `CodecConfig`.

    The frames of a VAE are vectors, float32 [batch, N, dim], instead of codes, int32 [batch, N,
    books]. label: for a codec with labels, in a form that `labels.read_labels` takes; or None.

    splits: whether the decoder remembers the codes of earlier calls of `decode_part`.
    """

    def __init__(self, weight_set, engine: str = ENGINES[0]):
        super().__init__(weight_set, engine)
        self.splits = self.config.can_decode_part
        self._vocode = vocoder(self.config)

    def encode(self, audio, label=None) -> np.ndarray:
        """audio float32 [batch, T] in [-1, 1] -> codes int32 [batch, ceil(T / level), books], in
        constant memory. Raises `UserError` for an unknown label.
        """
        return chunking.encode(partial(self.encode_window, label=label), audio, self.config.level,
                               self.encode_halo)

    def decode(self, codes, label=None) -> np.ndarray:
        """codes int32 [batch, N, books] -> audio float32 [batch, N·level], in constant memory.

        A residual codec takes any number of its first books. Raises `UserError` for unknown labels.
        """
        codes = np.asarray(codes, self.config.frame_dtype)
        return chunking.decode(partial(self.decode_window, label=label), codes, self.config.level,
                               self.decode_halo, past=self.decode_past)

    @property
    def encode_halo(self) -> int:
        """The encoder's receptive field on either side of a frame, in frames."""
        return self._fact("encode", "encode_halo")

    @property
    def decode_halo(self) -> int:
        """The decoder's receptive field on either side of a frame, in frames."""
        return self._decoder_fact("decode_halo")

    @property
    def decode_past(self) -> int:
        """The frames before the halo of which the decoder hears a mean."""
        return self._decoder_fact("decode_past")

    def _decoder_fact(self, key: str) -> int:
        # Both graphs hold the number. A stream uses `decode_part`, so its graph is open already.
        return self._fact("decode_part" if self.splits else "decode", key)

    @property
    def latency(self) -> float:
        """Algorithmic latency: seconds of audio that the codec needs before its first sample."""
        return self._fact("encode", "latency") / self.config.sample_rate

    def encode_window(self, audio, label=None) -> np.ndarray:
        """One run of the encoder: float32 [batch, n·level] -> int32 [batch, n, books]."""
        audio = np.asarray(audio, np.float32)
        return self._run("encode", audio, *self._label_input(label, len(audio)))[0]

    def decode_window(self, codes, start: int = 0, label=None) -> np.ndarray:
        """One run of the decoder: int32 [batch, n, books] -> float32 [batch, n·level].

        start: the position of the first frame in the piece; the phases of tones and the noise
            depend on it.
        """
        codes = np.asarray(codes, self.config.frame_dtype)
        return self._vocode(self._run("decode", codes, *self._start_input(start, len(codes)),
                                      *self._label_input(label, len(codes)))[0])

    def decode_part(self, codes, start: int, first: int, count: int, memory=None,
                    kept: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """The audio of the frames at positions first … first + count − 1 of a piece, float32
        [batch, count·level] or less where the piece ends, and the memory of the next call.

        Args:
            codes: int32 [batch, n, books], the frames of the piece from position `start` on, up to
                `decode_halo` after the audio or to the end of the piece.
            memory: of the codes before `start`, float32 [batch, s]. None: none are remembered;
                codes begin `decode_halo` + `decode_past` before the audio, or with the piece.
            kept: the number of codes that the next memory holds; None: all.
        """
        level, size = self.config.level, codes.shape[1]
        if not self.splits:
            first -= start
            audio = self.decode_window(codes, start)
            return audio[:, first * level : (first + count) * level], None
        near, delay, before, width = (self._fact("decode_part", name) for name in
                                      ("decode_near", "decode_delay", "decode_window", "state"))
        batch, end = len(codes), start + size
        missing = max(0, first + count + near + delay - end, 1 - size)
        codes = np.pad(np.asarray(codes, self.config.frame_dtype), ((0, 0), (0, missing), (0, 0)))
        positions = np.arange(start - delay, end + missing)
        inside = np.float32((positions >= 0) & (positions < end))
        window, begin = start - delay - before, max(0, first - near)
        places = np.arange(begin, min(first + count + near, end), dtype=np.int32) - window
        if memory is None:
            memory = np.zeros((batch, width), np.float32)
        audio, memory = self._run(
            "decode_part", codes, np.tile(inside[:, None], (batch, 1, 1)),
            np.full(batch, size if kept is None else kept, np.int32), np.tile(places, (batch, 1)),
            memory, *self._start_input(window, batch))
        return audio[:, (first - begin) * level : (first + count - begin) * level], memory

    def _label_input(self, label, batch: int) -> list[np.ndarray]:
        """The input of the labels, int32 [batch, 1, n, 2]; [] for a codec without labels."""
        if self.config.labels is None and not label:
            return []
        shares = read_labels(label, find_labels([self.config]), batch)
        return [Mixture(shares, shares).pairs(0, 1)]

    def _start_input(self, start: int, batch: int) -> list[np.ndarray]:
        """The position input, int32 [batch]; [] for a decoder without `needs_position`."""
        if not self.config.head.needs_position:
            return []
        return [np.full(batch, start % (PERIOD // self.config.level), np.int32)]


class GeneratorEngine(Engine):
    """Samples the codes of one level. precision: the number format of the weights."""

    def __init__(self, weight_set, engine: str = ENGINES[0]):
        super().__init__(weight_set, engine)
        self.precision = precision(self.config, engine)

    @cached_property
    def ngrams(self) -> frozenset[int]:
        """The hashes of note runs that a score must not copy, see `melody.ngrams`."""
        return melody.from_digits(self.corpus["ngrams"])

    @cached_property
    def corpus(self) -> dict[str, np.ndarray]:
        """Of a composer, the tables of `form.of_scores`."""
        return self.weight_set.load("corpus")

    def context(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The conditions' inputs by name -> context float32 [batch, n, context_channels].

        "source", the level above, is int32 [batch, N + 2·halo, books above], and n is N·ratio. A
        generator without "source" may return n = 1: one context for all frames.
        """
        return self._session("context").run(None, {
            c.input: np.asarray(inputs[c.input], c.dtype) for c in self.config.conditions})[0]

    def initial_state(self, batch: int) -> list[np.ndarray]:
        """Zeros float32 [batch, …], one array for each of the core's states."""
        return [np.zeros((batch, *shape), np.float32) for shape in self.config.states.values()]

    def sample(self, context, uniforms, previous, state, sampling: Sampling | None = None,
               forced=None, log_probs: bool = True, bias=None):
        """n steps: (codes int32 [B, n, books], log_probs float32 of that shape or None, state).

        Args:
            context: float32 [B, n, C], None without conditions. With guidance, context and state
                have 2·B rows: first the rows with labels, then those without.
            uniforms: float32 [B, n, books] in [0, 1).
            previous: int32 [B, books], the frame before the first, or the config's `start_token`.
            state: as `initial_state` returns it.
            sampling: None is the generator's own. Temperature 0: the likeliest code.
            forced: int32 [B, n, books], given codes; -1 where a code is drawn.
            log_probs: return the natural log of the probability with which each code was drawn.
            bias: float32 [books, codes], added to the logits before the temperature; None: zeros.
        """
        sampling = sampling or self.config.sampling
        inverse, top_k, top_p = loop_settings(sampling)
        if self.config.core.performs:  # the draws are its noise
            inverse, top_k, top_p = self.config.core.NEAREST, 0, 1.0
            uniforms = 0.5 + min(sampling.temperature, 1.0) * (np.asarray(uniforms) - 0.5)
        guided = self.config.is_guided(sampling)
        full = bool(log_probs or forced is not None or top_k or top_p < 1 or bias is not None
                    or guided)

        def by_step(array, dtype):
            return np.ascontiguousarray(np.swapaxes(np.asarray(array, dtype), 0, 1))

        feeds = {
            "uniforms": by_step(uniforms, np.float32),
            "previous": np.asarray(previous, np.int32),
            "inverse_temperature": np.array(inverse, np.float32),
        }
        if self.config.conditions:
            feeds["context"] = by_step(context, np.float32)
        if full:
            if forced is None:
                forced = np.full(np.shape(uniforms), -1)
            if bias is None:
                bias = np.zeros((self.config.books, self.config.num_codes))
            feeds |= {"forced": by_step(forced, np.int32), "top_k": np.array(top_k, np.int64),
                      "top_p": np.array(top_p, np.float32), "bias": np.asarray(bias, np.float32)}
        if guided:
            feeds["guidance"] = np.array(sampling.guidance, np.float32)
        state = [np.ascontiguousarray(x, np.float32) for x in state]
        codes, scores, state = self._loop(feeds, state, full)
        return (np.ascontiguousarray(codes.swapaxes(0, 1)),
                np.ascontiguousarray(scores.swapaxes(0, 1)) if log_probs else None, state)

    def _loop(self, feeds, state, full: bool):
        """(codes [n, B, books], log_probs [n, B, books], state) from feeds with time first.

        full: the graph with forced codes, filters, bias and log_probs; otherwise log_probs is None.
        """
        guided = "guidance" in feeds
        streams = len(feeds["previous"]) * (1 + guided)
        loop = self._session(loop_kind(self.precision, streams, full, guided))
        codes, *rest = loop.run(None, feeds | dict(zip(self.config.states, state, strict=True)))
        return (codes, rest[0], rest[1:]) if full else (codes, None, rest)
