"""Write a page for any static web host, which plays a model in the browser."""

from .. import cli
from ..io import weights
from ..io.files import printable
from ..play import api
from . import arguments

PORT = 7870


def parser():
    parser = cli.parser(
        "Write a folder of static files that plays music in any modern browser, on the visitor's "
        "own device. Any static host can serve the folder; the page sends no data. docs/web.md "
        "shows how to publish it.",
        "weights/mine site", "--serve",
    )
    parser.add_argument("weights", nargs="?", metavar="WEIGHTS",
                        help=f"folder of generators, with their own codecs if they have any "
                             f"(default: {weights.GENERATORS})")
    parser.add_argument("site", nargs="?", default="site", metavar="SITE", help="folder to write")
    parser.add_argument("--serve", action="store_true",
                        help="then serve the folder, to try it on this machine")
    arguments.add_address(parser, PORT, " (other machines get the page without its offline mode)")
    models = parser.add_argument_group("models")
    models.add_argument("--vqvae-weights-dir", metavar="DIR",
                        help=f"folder of the codecs (default: WEIGHTS if it holds any, otherwise "
                             f"{weights.CODECS})")
    arguments.add_engine(models)
    rare = parser.add_argument_group("rare options")
    rare.add_argument("--runtime", metavar="FILE",
                      help="the package of ONNX Runtime Web, as `npm pack` writes it (default: "
                           "npm downloads it once)")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    from ..studio import site

    site.check(args.site)
    music = api.load(args.vqvae_weights_dir, args.weights, args.engine)
    transferred = site.Site(music, args.runtime).write(args.site)
    print(f"wrote {printable(args.site)}: {transferred / 1e6:.1f} MB", flush=True)
    if args.serve:
        site.serve(args.site, args.host, args.port, say=lambda line: print(line, flush=True))
    return 0
