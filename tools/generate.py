"""Generate the protobuf code that is checked in, or check that it is current (`--check`)."""

import filecmp
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
# Import root and proto file, and the folder that its path below that root is generated into.
TARGETS = {
    ("proto", "proxy_attestation/ekep/v1/ekep.proto"): ROOT / "src",
    ("proto", "proxy_attestation/v1/proxy_attestation.proto"): ROOT / "src",
    ("proto/proxy_attestation/example/v1", "example.proto"): ROOT / "examples" / "example_application",
}


def generate(source: tuple[str, str], out: Path) -> None:
    """Run protoc for one file."""
    root, proto = source
    well_known = resources.files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"-I{ROOT / root}",
        f"-I{well_known}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        proto,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit(f"protoc failed on {proto}")


def stale(proto: str, out: Path, fresh: Path) -> list[str]:
    """Return the generated files that differ from those in `fresh`."""
    generated = [path.relative_to(fresh) for path in fresh.rglob("*_pb2*") if path.is_file()]
    return [
        str(name)
        for name in generated
        if not (out / name).exists() or not filecmp.cmp(out / name, fresh / name, shallow=False)
    ] or ([] if generated else [f"nothing generated from {proto}"])


def main() -> int:
    """Generate in place, or into a scratch folder and compare."""
    if "--check" not in sys.argv:
        for source, out in TARGETS.items():
            generate(source, out)
        return 0
    bad: list[str] = []
    for source, out in TARGETS.items():
        scratch = Path(tempfile.mkdtemp())
        try:
            generate(source, scratch)
            bad += stale(source[1], out, scratch)
        finally:
            shutil.rmtree(scratch)
    for name in bad:
        print(f"not current, run `make generate`: {name}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
