"""How well speech came through: STOI and PESQ, by the libraries that others measure with.

pystoi comes with `tokenloom[audio]`. pesq is compiled where it is installed (`pip install pesq`), so no extra asks for
it.

STOI (Taal et al. 2011) predicts from 0 to 1 how many words are understood; PESQ (ITU-T P.862.2, wideband) from 1.04 to
4.64 how good it sounds. Both compare with the original and expect the two in step.
"""

import warnings
from importlib.util import find_spec

from torch import Tensor


def missing() -> list[str]:
    """A line on each library that `speech_scores` would use and that is not installed."""
    needed = {"pystoi": ("STOI", "tokenloom[audio]"), "pesq": ("PESQ", "pesq, for which a C compiler is needed")}
    return [
        f"no {library}, so no {score}: pip install {name}"
        for library, (score, name) in needed.items()
        if find_spec(library) is None
    ]


def speech_scores(sounds: Tensor, targets: Tensor, sample_rate: int) -> dict[str, float]:
    """Mean "stoi" and "pesq" of (B, 1, S) in [-1, 1] twice, at 16 kHz; a score without its library is left out.

    Sounds without speech have no score, and are passed over; where none has one, the score is left out.
    """
    scores: dict[str, list[float]] = {"stoi": [], "pesq": []}
    pairs = list(zip(targets[:, 0].cpu().numpy(), sounds[:, 0].cpu().numpy(), strict=True))
    if find_spec("pystoi"):
        from pystoi import stoi

        for target, sound in pairs:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)  # its way to say that there is too little speech
                try:
                    scores["stoi"].append(float(stoi(target, sound, sample_rate)))
                except RuntimeWarning:
                    continue
    if find_spec("pesq"):
        from pesq import NoUtterancesError, pesq

        for target, sound in pairs:
            try:
                scores["pesq"].append(float(pesq(sample_rate, target, sound, "wb")))
            except (NoUtterancesError, ValueError):
                continue
    return {name: sum(found) / len(found) for name, found in scores.items() if found}
