"""Any video file, opened safely, whatever decodes it: pixels are bounded before they are decoded."""

from collections.abc import Iterator
from contextlib import contextmanager

from .clip import Clip
from .container_clip import FORMATS, OPTIONS, ContainerClip
from .open_media import Source, name_of, open_container, open_media
from .webp_clip import WebPClip


@contextmanager
def open_video(source: Source, name: str | None = None, *, keep_decodable: bool = False) -> Iterator[Clip]:
    """A clip, closed on the way out, however one leaves. `name` stands in messages where the source has no path.

    A damaged or cut-off file is refused, or, with `keep_decodable`, gives the frames that are whole.

    Raises:
        MediaError: whatever is wrong with the clip, here or inside the block.
    """
    name = name or name_of(source, "clip")
    with open_media(source, name, "video", keep_decodable=keep_decodable) as file:
        head = file.read(12)
        file.seek(0)
        if head.startswith(b"RIFF") and head.endswith(b"WEBP"):
            yield WebPClip(file, name, keep_decodable)
        else:
            with open_container(file, FORMATS, OPTIONS) as container:
                yield ContainerClip(container, name, keep_decodable)
