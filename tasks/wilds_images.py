"""iWildCam, Camelyon17 and FMoW, of WILDS; the shift is the camera, the hospital, or the year and the region."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from benchmark.api import Inputs, Lazy, Supervisor, TaskCard, W2SError, register_task
from benchmark.assets.pretrained import model_missing
from benchmark.encoders.vision import VisionEncoder
from tasks._shared import joined
from tasks._torchvision_models import TorchvisionClassifier
from tasks._wilds import CAMELYON17, FMOW, IWILDCAM, Images, Index, table_hash
from tasks._wilds_task import SUPERVISORS, WildsTask


class WildsImages(WildsTask):
    """Images, read one by one; supervisors are networks of torchvision, trained from scratch.

    Args:
        pixels: side of the supervisors' input.
    """

    encoder = VisionEncoder()
    options: ClassVar[Mapping[str, str]] = {
        "encoder": "hub id or folder of a vision model",
        "supervisor": "an architecture of torchvision",
        "pixels": "side of the supervisors' input",
        "supervisor_epochs": "most epochs of their training",
        **WildsTask.options,
    }

    def __init__(self, *shared: Any, pixels: int, **more: Any) -> None:
        super().__init__(*shared, **more)
        self.weak_model = TorchvisionClassifier(architecture="alexnet", pixels=pixels)

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        repeats = SUPERVISORS // len(self.card.sources)
        return [
            Supervisor(self.weak_model, (source,), validation=(validation,))
            for source, validation in zip(self.card.sources * repeats, self.validation * repeats, strict=True)
        ]

    def configured(self, options: Mapping[str, Any]) -> Self:
        """The same task with other models, or on data elsewhere."""
        task = super().configured(options)
        if "encoder" in options:
            task.encoder = VisionEncoder(model=str(options["encoder"]))
        if "supervisor" in options:
            task.weak_model = replace(task.weak_model, architecture=str(options["supervisor"]))
        if "pixels" in options:
            task.weak_model = replace(task.weak_model, pixels=self._count("pixels", options))
        if "supervisor_epochs" in options:
            task.weak_model = replace(task.weak_model, epochs=self._count("supervisor_epochs", options))
        return task

    def _count(self, option: str, options: Mapping[str, Any]) -> int:
        value = str(options[option])
        if not value.isdecimal() or int(value) < 1:
            raise W2SError(f"task '{self.name}': {option} is '{value}', expected a whole number from 1")
        return int(value)

    def missing(self) -> str | None:
        """Also the encoder's weights."""
        return joined(super().missing(), model_missing(self.encoder.model))

    def inputs(self, rows: Index) -> tuple[Callable[[], Inputs], str]:
        """Images; the hash is of the table that names them, and their positions in it."""
        images = Images(self._data, self.root, rows)
        positions = hashlib.sha256(rows.tobytes()).hexdigest()
        return lambda: Lazy.of(images), f"{table_hash(self._data, self.root)} {positions}"


_WILDS = "Koh et al. 2021, WILDS"
_IWILDCAM = TaskCard(
    modality="image",
    shift="cameras: animals seen by 243 camera traps, to 48 others",
    sources=(),
    target="",
    classes=("empty", *(f"species {k}" for k in range(1, 182))),
    metric="macro_f1",
    licence="CDLA-Permissive 1.0",
    citation=f"Beery, Cole & Gjoka 2020, The iWildCam 2020 Competition Dataset; {_WILDS}",
    requires="",
    size="203,029 images: train 129,809, test 42,791, id_test 8,154, id_val 7,314",
)
_CAMELYON17 = TaskCard(
    modality="image",
    shift="hospitals: slides of lymph nodes of three hospitals, to another one",
    sources=(),
    target="",
    classes=("normal", "tumour"),
    metric="accuracy",
    licence="CC0 1.0",
    citation=f"Bándi et al. 2018, From Detection of Individual Metastases to [...] Lymph Node Status; {_WILDS}",
    requires="",
    size="455,954 patches of 96 px: train 302,436, test 85,054, id_val 33,560",
)
# in the order of WILDS
_CATEGORIES = """
airport, airport_hangar, airport_terminal, amusement_park, aquaculture, archaeological_site, barn,
border_checkpoint, burial_site, car_dealership, construction_site, crop_field, dam, debris_or_rubble,
educational_institution, electric_substation, factory_or_powerplant, fire_station, flooded_road, fountain,
gas_station, golf_course, ground_transportation_station, helipad, hospital, impoverished_settlement,
interchange, lake_or_pond, lighthouse, military_facility, multi-unit_residential, nuclear_powerplant,
office_building, oil_or_gas_facility, park, parking_lot_or_garage, place_of_worship, police_station, port,
prison, race_track, railway_bridge, recreational_facility, road_bridge, runway, shipyard, shopping_mall,
single-unit_residential, smokestack, solar_farm, space_facility, stadium, storage_tank, surface_mine,
swimming_pool, toll_booth, tower, tunnel_opening, waste_disposal, water_treatment_facility, wind_farm, zoo
"""
_FMOW = TaskCard(
    modality="image",
    shift="years: satellite images of 2002 to 2012, to 2016 and 2017; judged by the worst region",
    sources=(),
    target="",
    classes=tuple(" ".join(_CATEGORIES.split()).split(", ")),
    metric="worst_group_accuracy",
    licence="FMoW Challenge Public License",
    redistribution="the FMoW Challenge Public License sets conditions: read it first",
    citation=f"Christie et al. 2018, Functional Map of the World; {_WILDS}",
    requires="",
    size="141,696 images of 224 px: train 76,863, test 22,108, id_test 11,327, id_val 11,483",
)

_ALL = (
    (IWILDCAM, _IWILDCAM, ("id_test", "id_val"), 448, "cameras"),
    (CAMELYON17, _CAMELYON17, ("id_val", "id_val"), 96, "hospitals"),
    (FMOW, _FMOW, ("id_test", "id_val"), 224, "regions"),
)
for _data, _card, _held_out, _pixels, _parts in _ALL:
    for _by_domain in (False, True):
        register_task(WildsImages(_data, _card, _held_out, pixels=_pixels, parts=_parts, by_domain=_by_domain))
