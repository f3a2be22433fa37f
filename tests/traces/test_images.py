"""An image is opened safely, upright and in RGB, or refused with what to do."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trajkit.errors import InputError
from trajkit.traces.images import MAX_PIXELS, MIN_SIDE, confined, open_image, to_png

from .factory import png


def header_only_png(width: int, height: int) -> bytes:
    """A PNG that says it is width x height, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_a_picture_is_opened_from_a_file_and_from_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(3))
    image = open_image(tmp_path / "a.png")
    assert (image.mode, image.size) == ("RGB", (24, 20))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(open_image(png(3))))
    np.testing.assert_array_equal(np.asarray(open_image(to_png(image))), np.asarray(image))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png does not exist; expected an image file \(PNG"):
        open_image(tmp_path / "none.png")
    with pytest.raises(InputError, match="cannot be read"):
        open_image(tmp_path)


@pytest.mark.parametrize("data", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n"])
def test_what_is_no_picture_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.png is not an image that can be opened.*Convert it, or leave it out"):
        open_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_picture_cut_short_is_refused(tmp_path: Path, kind: str) -> None:
    stream = io.BytesIO()
    Image.open(io.BytesIO(png(0, (200, 200)))).save(stream, format=kind)
    (tmp_path / "a").write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
    with pytest.raises(InputError, match=r"is damaged and cannot be decoded|is not an image that can be opened"):
        open_image(tmp_path / "a")


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (400, 15)])
def test_a_picture_smaller_than_a_patch_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"at least 16 pixels a side, got {size[0]} x {size[1]}.*enlarge it"):
        open_image(png(0, size))
    assert open_image(png(0, (MIN_SIDE, MIN_SIDE))).size == (16, 16)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(10_000, 5_000), (10_000, 10_000), (60_000, 60_000)])
def test_50_megapixels_and_bombs_are_refused_before_they_are_decoded(size: tuple[int, int]) -> None:
    assert size[0] * size[1] > MAX_PIXELS
    with pytest.raises(InputError, match=r"must have at most 40 million pixels, got .*Resize it first: .*thumbnail"):
        open_image(header_only_png(*size))


def test_a_picture_just_below_the_limit_is_not_too_large() -> None:
    with pytest.raises(InputError, match="is damaged"):  # its header passed
        open_image(header_only_png(8_000, 5_000))


@pytest.mark.parametrize(
    "data", [b"\0\0\0\x18ftypisom" + bytes(20), b"\x1aE\xdf\xa3" + bytes(40), b"RIFF\0\0\0\0AVI " + bytes(9)]
)
def test_a_video_is_called_one(data: bytes) -> None:
    with pytest.raises(InputError, match="is a video; video is not supported: pass single frames"):
        open_image(data)


@pytest.mark.parametrize("brand", [b"heic", b"hevc", b"avif", b"crx ", b"M4A "])
def test_what_shares_the_container_of_videos_is_not_called_one(brand: bytes) -> None:
    with pytest.raises(InputError, match="is not an image that can be opened"):
        open_image(b"\0\0\0\x18ftyp" + brand + bytes(20))


def test_the_camera_s_rotation_is_applied() -> None:
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    stream = io.BytesIO()
    image.save(stream, format="PNG", exif=exif)
    upright = open_image(stream.getvalue())
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5)) == (255, 255, 255)
    assert upright.getpixel((10, 35)) == (0, 0, 0)


def test_transparency_is_laid_on_white() -> None:
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 10, 20))
    opened = open_image(to_png(image))
    assert opened.getpixel((5, 5)) == (255, 0, 0)
    assert opened.getpixel((15, 5)) == (255, 255, 255)


def test_16_bit_grey_keeps_its_range() -> None:
    ramp = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    opened = np.asarray(open_image(to_png(Image.fromarray(ramp))))
    np.testing.assert_array_equal(opened, np.repeat((ramp >> 8)[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (20, 20), "white").convert(mode).save(stream, format="TIFF")
    opened = open_image(stream.getvalue())
    assert opened.mode == "RGB"
    assert opened.getpixel((3, 3)) == (255, 255, 255)


def test_an_image_is_confined_to_its_root_whatever_links_say(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "in", outside):
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    (root / "link.png").symlink_to(outside / "a.png")
    (root / "folder").symlink_to(outside)
    (root / "inner.png").symlink_to(root / "in" / "a.png")
    (root / "loop").symlink_to(root / "loop")
    assert confined(root / "in" / ".." / "in" / "a.png", root) == (root / "in" / "a.png").resolve()
    assert confined(root / "inner.png", root) == (root / "in" / "a.png").resolve()
    (tmp_path / "root-too").mkdir()
    for path in (
        root / "link.png",
        root / "folder" / "a.png",
        root / ".." / "outside" / "a.png",
        "/etc/passwd",
        tmp_path / "root-too" / "a.png",
        root / "folder" / ".." / "x.png",
        root / "loop" / "x",
        f"{root}/a\0b",
    ):
        with pytest.raises(InputError, match=r"outside|cannot be looked for"):
            confined(path, root)
    with pytest.raises(InputError, match="cannot be looked for"):
        confined(root / "in" / "a.png", tmp_path / "none")
