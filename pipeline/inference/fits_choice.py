"""Choose the science image of a FITS file by name, and the HDUs that belong to it.

Names decide, never position alone: an error map that comes first is not the picture.
"""

import re

from pipeline.inference.fits_walk import Hdu
from pipeline.inference.images import RejectReason, UnreadableImageError

#: Words of an EXTNAME that say the image is not the sky.
_AUXILIARY = frozenset(
    "ERR ERROR ERRORS DQ WHT WEIGHT WEIGHTS PSF RMS VAR VARIANCE IVAR INVVAR SIGMA STD STDDEV "
    "NOISE UNC UNCERT UNCERTAINTY MASK FLAG FLAGS BKG BACKGROUND SKY MODEL EXPTIME TIME COV "
    "COVERAGE CON CTX CONTEXT SEG SEGM SEGMENTATION QUALITY SAMP NPIX HITS AREA WMAP KERNEL "
    "WCSDVARR D2IMARR WAVELENGTH LAMBDA SPECTRUM".split()
)
#: EXTNAMEs that say the image is the picture, best first.
_SCIENCE = (("SCI", "SCIENCE"), ("IMAGE", "IMG", "DATA", "BGSUB", "PRIMARY", "VIS"))
#: Words of an EXTNAME -> what the image says about the picture beside it.
ROLES = {
    "mask": {"DQ", "MASK", "FLAG", "FLAGS", "QUALITY"},
    "error": {"ERR", "ERROR", "ERRORS", "RMS", "SIGMA", "STD", "STDDEV", "UNC", "UNCERTAINTY"},
    "weight": {"WHT", "WEIGHT", "WEIGHTS", "WMAP", "IVAR", "INVVAR"},
    "psf": {"PSF", "KERNEL"},
}  # fmt: skip


def choose(
    hdus: list[Hdu], wanted: str | None, bands: tuple[str, ...], band: str | None = None
) -> tuple[Hdu, bool]:
    """The science image, and whether others were there.

    Parameters
    ----------
    hdus : list of Hdu
    wanted : str or None
        EXTNAME, ``NAME,VERSION`` or number asked for.
    bands : tuple of str
        Those of the checkpoint decide between several.
    band : str, optional
        Band asked for, which decides before them.

    Raises
    ------
    UnreadableImageError
        If there is none, or several that could be the one.
    """
    images = [item for item in hdus if item.shape]
    if wanted is not None:
        for item in images:
            if wanted.upper() in (item.extname, item.label, str(item.index)):
                return item, False
        raise _reject(
            RejectReason.NO_IMAGE,
            f"no image HDU {wanted!r}; there are {', '.join(i.label for i in images) or 'none'}",
        )
    if not images:
        raise _reject(RejectReason.NO_IMAGE, f"no image in {len(hdus)} HDU(s)")
    sky = [item for item in images if not _is_auxiliary(item)]
    if not sky:
        names = ", ".join(item.label for item in images)
        raise _reject(RejectReason.NO_IMAGE, f"only images that are not the sky: {names}")
    flat = [
        item for item in sky if len(item.squeezed) >= 2 or min(item.shape) == 1 < len(item.shape)
    ]
    if not flat:
        raise _reject(RejectReason.WRONG_SHAPE, f"HDU {sky[0].label} has one axis, no picture")
    best = min(_rank(item) for item in flat)
    leaders = [item for item in flat if _rank(item) == best]
    # VIS: of many bands, the one a lens is best resolved in
    for name in (*((band,) if band else ()), *bands, "VIS"):
        matching = [item for item in leaders if _words(item) & _split(name)]
        if len(leaders) > 1 and len(matching) == 1:
            leaders = matching
    if len(leaders) > 1:
        names = ", ".join(item.label for item in leaders)
        raise _reject(
            RejectReason.AMBIGUOUS_IMAGE, f"several images that could be the one: HDUs {names}"
        )
    return leaders[0], len(flat) > 1


def _words(item: Hdu) -> set[str]:
    band = item.cards.text("FILTER") or ""
    return _split(f"{item.extname} {band}")


def _split(text: str) -> set[str]:
    return set(re.split(r"[^A-Z0-9]+", text.upper())) - {""}


def _is_auxiliary(item: Hdu) -> bool:
    words = re.split(r"[^A-Z]+", item.extname)
    return any(word in _AUXILIARY for word in words)


def _rank(item: Hdu) -> int:
    words = set(re.split(r"[^A-Z]+", item.extname))
    for rank, names in enumerate(_SCIENCE):
        if words & set(names):
            return rank
    return len(_SCIENCE) + (0 if item.index == 0 else 1)


def choose_bands(hdus: list[Hdu], bands: tuple[str, ...]) -> list[Hdu]:
    """One image HDU for each band of a checkpoint, or nothing where names do not say so."""
    common = set.intersection(*(_split(band) for band in bands))
    found = []
    for band in bands:
        own = _split(band) - common
        matching = [
            item
            for item in hdus
            if len(item.squeezed) == 2 and not _is_auxiliary(item) and _words(item) & own
        ]
        if len(matching) != 1:
            return []
        found += matching
    return found if len({item.squeezed for item in found}) == 1 else []


def companion(chosen: Hdu, hdus: list[Hdu], role: str) -> Hdu | None:
    """HDU that plays a role of :data:`ROLES` for the chosen one; None unless exactly one does.

    The words of its name must be those of the chosen one apart from what says the role, and maps
    must have its shape and version: ``VIS_RMS`` belongs to ``VIS_BGSUB``, ``ERR,2`` to ``SCI,2``.
    """
    words = ROLES[role]
    found = [
        item
        for item in hdus
        if item.shape
        and item.index != chosen.index
        and words & _name_words(item)
        and _stem(item) in (_stem(chosen), frozenset())
        and (role == "psf" or _same_frame(item, chosen))
    ]
    exact = [item for item in found if _stem(item) == _stem(chosen)]
    best = exact or found
    return best[0] if len(best) == 1 else None


def _same_frame(item: Hdu, chosen: Hdu) -> bool:
    versions = [h.cards.integer("EXTVER", 1) or 1 for h in (item, chosen)]
    return item.squeezed == chosen.squeezed and versions[0] == versions[1]


def _stem(item: Hdu) -> frozenset[str]:
    generic = {"SCI", "SCIENCE", "IMAGE", "IMG", "DATA", "BGSUB", "PRIMARY"}
    return frozenset(_name_words(item) - generic - _AUXILIARY)


def _name_words(item: Hdu) -> set[str]:
    return set(re.split(r"[^A-Z0-9]+", item.extname)) - {""}


def _reject(reason: RejectReason, detail: str) -> UnreadableImageError:
    return UnreadableImageError(reason, detail)
