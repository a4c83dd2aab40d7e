"""Prediction of any images with a bundle or a run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, overload

import numpy as np
import torch

from bcd.config.errors import nearest
from bcd.evaluation.conformal import conformal_sets
from bcd.evaluation.decisions import CALIBRATED
from bcd.images.decode import printable
from bcd.images.scan import ImageLike, Scan, is_one, scan_of
from bcd.predictor.backends import use_export
from bcd.predictor.bundle import SCOPE, Bundle, read_bundle
from bcd.predictor.bundles.hashes import BundleError, read_hashes, read_sealed
from bcd.predictor.consistency import Agreement, agreement, shared_out
from bcd.predictor.measurements import measure
from bcd.predictor.networks import MAX_WEIGHTS_BYTES, State, build_member, from_bytes
from bcd.predictor.options import PredictOptions
from bcd.predictor.pipeline import Answer, Pipeline, mean_map, mean_of
from bcd.predictor.result import Result
from bcd.predictor.scope import Scope, ScopeError, ScopeModel
from bcd.predictor.uncertainty import uncertainty_of

# What a network can make of fewer pixels is guesswork.
SMALLEST_PX = 64


class Predictor:
    """Predicts with a bundle: classification, segmentation, measurements, uncertainty.

    A single network gives the same results as evaluation, to the bit. One image is predicted at a time, so that its result does not
    depend on the others.

    Args:
        bundle: the description.
        pipeline: its networks.
        scope_model: detects images unlike the training images; None where the bundle has none.
    """

    def __init__(self, bundle: Bundle, pipeline: Pipeline, scope_model: ScopeModel | None = None) -> None:
        self.bundle = bundle
        self.pipeline = pipeline
        self.scope_model = scope_model
        self.export: str | None = None  # the exported model that runs in place of the networks
        self.classes = list(bundle.classes)
        self.positive = bundle.positive
        self.points = bundle.decisions.usable
        self.outlines = bundle.mask_threshold is not None
        self.classifies = bool(bundle.classes)

    @classmethod
    def load(cls, bundle: Path, device: str | None = None, export: str | None = None, trusted: Collection[str] = ()) -> "Predictor":
        """Return the predictor of a bundle.

        Args:
            bundle: the folder.
            device: of the networks; None for the GPU if there is one. Exported models run on the CPU.
            export: an exported model of the bundle to run in place of its networks, such as `onnx-fp32`; None for the networks.
            trusted: constructors of the user's own that the bundle may name; never taken from the bundle.

        Raises:
            BundleError: when the bundle cannot be used.
        """
        described = read_bundle(Path(bundle))
        digests = read_hashes(Path(bundle))
        if export is None:
            states = {
                network.name: from_bytes(read_sealed(Path(bundle), network.weights, digests, MAX_WEIGHTS_BYTES), network.weights)
                for network in described.networks
            }
            predictor = cls.of(described, states, device, trusted)
        else:
            members = [build_member(network, None, "cpu", trusted) for network in described.networks]
            use_export(members, Path(bundle), export, digests)
            predictor = cls(described, Pipeline(members))
            predictor.export = export
        if SCOPE in digests:
            read_sealed(Path(bundle), SCOPE, digests)
            try:
                predictor.scope_model = ScopeModel.load(Path(bundle) / SCOPE)
            except (ScopeError, OSError) as error:
                raise BundleError(f"{Path(bundle) / SCOPE}: {error}") from error
        return predictor

    @classmethod
    def of(
        cls, bundle: Bundle, states: Mapping[str, State], device: str | None = None, trusted: Collection[str] = ()
    ) -> "Predictor":
        """Return the predictor of a description and the weights of its networks by name, in a folder or not.

        Raises:
            BundleError: when they do not fit.
        """
        device = device if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
        members = [build_member(network, states[network.name], device, trusted) for network in bundle.networks]
        return cls(bundle, Pipeline(members))

    @overload
    def predict(
        self,
        images: ImageLike,
        options: PredictOptions | None = None,
        *,
        mask: np.ndarray | None = None,
        outline: np.ndarray | None = None,
        **changes: Any,
    ) -> Result: ...

    @overload
    def predict(
        self,
        images: Sequence[ImageLike],
        options: PredictOptions | None = None,
        *,
        mask: Sequence[np.ndarray | None] | None = None,
        outline: Sequence[np.ndarray | None] | None = None,
        **changes: Any,
    ) -> list[Result]: ...

    def predict(
        self,
        images: ImageLike | Sequence[ImageLike],
        options: PredictOptions | None = None,
        *,
        mask: np.ndarray | Sequence[np.ndarray | None] | None = None,
        outline: np.ndarray | Sequence[np.ndarray | None] | None = None,
        **changes: Any,
    ) -> Result | list[Result]:
        """Return the result of an image, or those of several.

        Args:
            images: grey uint8 (H, W) or RGB uint8 (H, W, 3), a PIL image, a path, the content of a file, or a list of such.
            options: what is wanted; None for the bundle's own operating point and mask threshold alone.
            mask: binary (H, W), or one for each image: classify with this mask, such as one corrected by hand, in place of the
                predicted one; it becomes the result's mask.
            outline: the former name of `mask`.
            changes: fields of `PredictOptions` by name, such as `uncertainty=True`.

        Raises:
            ImageError: when an image cannot be read.
            ValueError: for an operating point that there is not, a threshold outside (0, 1), or a mask of another size.
        """
        options = replace(options or PredictOptions(), **changes)
        point = options.point
        if point is not None and point not in self.points:
            raise ValueError(f"point={point}: this bundle has no such operating point. {nearest(point, self.points)}")
        if options.mask_threshold is None:
            options = replace(options, mask_threshold=self.bundle.mask_threshold)
        given = mask if mask is not None else outline
        if is_one(images):
            return self._result(scan_of(cast(ImageLike, images)), options, cast("np.ndarray | None", given))
        images = cast(Sequence[ImageLike], images)
        masks: list[np.ndarray | None] = [None] * len(images) if given is None else list(given)
        if len(masks) != len(images):
            raise ValueError(f"There are {len(images)} images and {len(masks)} masks; give one for each, or None.")
        return [self._result(scan_of(image), options, one) for image, one in zip(images, masks, strict=True)]

    def _result(self, scan: Scan, options: PredictOptions, mask_given: np.ndarray | None) -> Result:
        given = _checked(mask_given, scan)
        answer = self.pipeline(scan.image, scan.name, options.mask_threshold, given)
        probability_map = mean_map(answer.maps) if answer.maps else None
        mask = answer.mask
        lesions = measure(mask, probability_map, scan.spacing_mm) if mask is not None else ()
        raw, calibrated = mean_of(answer.raw), mean_of(answer.calibrated)
        agreed = self._agreement(calibrated, mask, len(lesions), given is not None)
        if agreed.empties_mask and mask is not None:
            mask, lesions = np.zeros_like(mask), ()
        final = None if calibrated is None else shared_out(calibrated, agreed.allowed)
        point, threshold, is_positive = self._decision(options.point, raw, final, agreed)
        label = None if final is None else int(final.argmax())
        conformal = None
        if calibrated is not None and self.bundle.conformal is not None:
            kept = conformal_sets(calibrated[None], np.array([self.bundle.conformal]))[0]
            conformal = tuple(name for name, is_in in zip(self.classes, kept, strict=True) if is_in)
        scope = self.scope_model.check(scan.image, scan.colour) if self.scope_model is not None else None
        return Result(
            name=scan.name,
            height=scan.image.shape[0],
            width=scan.image.shape[1],
            spacing_mm=scan.spacing_mm,
            probability_map=probability_map,
            mask=mask,
            lesions=lesions,
            raw=raw,
            probabilities={} if final is None else dict(zip(self.classes, map(float, final), strict=True)),
            label=None if label is None else self.classes[label],
            point=point,
            threshold=threshold,
            is_positive=is_positive,
            consistent=agreed.consistent,
            consistency=agreed.sentence,
            conformal=conformal,
            scope=scope,
            uncertainty=(
                uncertainty_of(self.pipeline, scan.image, scan.name, options.mask_threshold, given, answer)
                if options.uncertainty
                else None
            ),
            heat_map=self._heat_map(scan, answer, label) if options.heat_map else None,
            warnings=tuple(self._warnings(scan, scope, options, given)),
        )

    def _heat_map(self, scan: Scan, answer: Answer, label: int | None) -> np.ndarray | None:
        if label is None:
            return None
        from bcd.predictor.heat_map import heat_map  # late: what few ask for is not loaded by all

        return heat_map(self.pipeline.classifiers, scan.image, answer.mask, label)

    def _agreement(self, calibrated: np.ndarray | None, mask: np.ndarray | None, n_lesions: int, is_given: bool) -> Agreement:
        if calibrated is None or mask is None:
            return Agreement(None, "")
        # A mask given by the user is never emptied.
        rule = "report" if is_given and self.bundle.consistency == "class" else self.bundle.consistency
        return agreement(self.classes[int(calibrated.argmax())], n_lesions, self.classes, self.bundle.lesion_free, rule)

    def _decision(
        self, point: str | None, raw: np.ndarray | None, calibrated: np.ndarray | None, agreed: Agreement
    ) -> tuple[str | None, float | None, bool | None]:
        """Return the operating point, its threshold, and whether the image is positive at it."""
        choices = self.bundle.decisions
        point = point if point is not None else choices.default_point
        if point is None or raw is None or calibrated is None or self.positive is None:
            return None, None, None
        compared = calibrated if choices.on == CALIBRATED else shared_out(raw, agreed.allowed)
        threshold = self.points[point]
        return point, threshold, float(compared[self.classes.index(self.positive)]) >= threshold

    def _warnings(self, scan: Scan, scope: Scope | None, options: PredictOptions, given: np.ndarray | None) -> list[str]:
        height, width = scan.image.shape
        warnings = []
        if scope is not None and not scope.in_scope:
            warnings.append(f"Out of scope: {'; '.join(scope.reasons)}. The prediction is not reliable.")
        if scan.source is not None and scan.source.modality not in (None, "US"):
            warnings.append(f"The file's modality is {printable(scan.source.modality)}, not ultrasound (US).")
        if self.bundle.synthetic:
            warnings.append("This model learned from simulated images; its prediction for a patient's image means nothing.")
        if min(height, width) < SMALLEST_PX:
            warnings.append(f"The image has {height} x {width} px, too few; the models are for images of several hundred.")
        if given is not None and not self.pipeline.takes_guide and self.classifies:
            warnings.append("This model does not use a mask: the given one changes measurements, not the classification.")
        if not self.outlines and given is None and self.pipeline.takes_guide:
            warnings.append("This model needs a mask, and has no network that predicts one: it was given the whole image.")
        if options.heat_map and not self.classifies:
            warnings.append("This model does not classify, so there is no heat map; see its probability map.")
        return warnings


def _checked(given: np.ndarray | None, scan: Scan) -> np.ndarray | None:
    """Return the mask that was given for a scan, bool (H, W)."""
    if given is None:
        return None
    mask = np.asarray(given)
    if mask.shape != scan.image.shape or not np.isin(mask, (0, 1)).all():
        height, width = scan.image.shape
        raise ValueError(f"{scan.name}: the mask is {mask.shape}; give one of 0 and 1, {height} x {width} as the image.")
    return mask.astype(bool)
