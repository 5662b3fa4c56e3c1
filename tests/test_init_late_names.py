"""Names, in several languages, of what only the end of a log or a test knows: totals, means of ratings, groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import unseen
from initiated import daily, features, frame, made

from dmtl_cli.guess.sides import states

ACTS = ["clicked", "foresporsler", "good"]
TOTALS = [
    "klikk_totalt", "visite_totale", "просмотров_итого", "total_bookings", "Aufrufe insgesamt", "予約合計",
    "antall_foresporsler", "foresporsel_antall", "foresporsler",
]  # fmt: skip
NONE = [
    "seats_total",
    "rom_totalt",
    "total_pages",
    "price_total",
    "areal_totalt",
    "antall_bilder",
    "pris_natt",
    "total",
]
MEANS = [
    "vurdering", "snitt_vurdering", "vurdering_snitt", "betyg", "note", "nota_medie", "reiting", "ocena", "voto",
    "média_avaliação", "cijfer", "оцінка",
]  # fmt: skip


@pytest.mark.parametrize("name", TOTALS)
def test_totals_of_acts(name: str) -> None:
    x = np.random.default_rng(0).poisson(20, 400)
    why = str(states.total(pl.Series(name, x), lambda _: 0.0, acts=ACTS))
    assert "named like a running total" in why or "perhaps a number of foresporsler, which comes of exposures" in why


def test_a_few_values_are_classes() -> None:
    assert states.total(pl.Series("klikk_totalt", [1, 2, 3] * 9), lambda _: 0.0, acts=ACTS) is None


@pytest.mark.parametrize(
    "name",
    [
        "days_since_last_order", "last_order_days_ago", "recency", "giorni_da_ultimo_acquisto",
        "tage_seit_letztem_kauf", "jours_depuis_dernier_achat", "dias_desde_ultima_compra",
        "dagen_sinds_laatste_aankoop",
    ],
)  # fmt: skip
def test_how_long_ago_something_was_done_last(name: str) -> None:
    """Of one state of a table for all days: who bought yesterday has a 1, on all days before too."""
    why = states.total(pl.Series(name, [0, 1, 2, 5, 9] * 20), lambda _: 0.0, of_users=True)
    assert str(why).startswith("named like how long ago something was done last")


@pytest.mark.parametrize(
    "name", ["days_since_signup", "giorni_di_prova", "last_name_length", "days_open", "dias_desde_alta"]
)
def test_how_long_ago_something_began_is_no_such(name: str) -> None:
    assert states.total(pl.Series(name, [0, 1, 2, 5, 9] * 20), lambda _: 0.0) is None


@pytest.mark.parametrize("name", ["return_rate", "refund_rate", "tasso_reso", "taux_retour", "retourenquote"])
def test_rates_of_what_came_back(name: str) -> None:
    why = states.total(pl.Series(name, [0.0, 0.1, 0.2, 0.5] * 20), lambda _: 0.0)
    assert str(why).startswith("named like a rate of what users do")


def test_a_few_numbers_of_an_act_are_a_users() -> None:
    """Most users have sent few things back; of items so few values are classes."""
    few = pl.Series("numero_resi", [0, 1, 2, 3, 4] * 20)
    assert "perhaps a number of resi" in str(states.total(few, lambda _: 0.0, acts=["resi"], of_users=True))
    assert states.total(few, lambda _: 0.0, acts=["resi"]) is None
    flag = pl.Series("numero_resi", [0, 1] * 20)
    assert states.total(flag, lambda _: 0.0, acts=["resi"], of_users=True) is None


@pytest.mark.parametrize("name", NONE)
def test_what_an_item_is_by_itself_is_no_total(name: str) -> None:
    x = np.random.default_rng(0).poisson(20, 400)
    assert states.total(pl.Series(name, x), lambda _: 0.0, acts=ACTS) is None


@pytest.mark.parametrize("name", MEANS)
def test_means_of_ratings(name: str) -> None:
    x = pl.Series(name, np.random.default_rng(0).uniform(3, 5, 400).round(1))
    assert "named like a mean of ratings" in str(states.total(x, lambda _: 0.0))
    assert states.total(pl.Series(name, [1, 2, 3] * 9), lambda _: 0.0) is None


@pytest.mark.parametrize(
    "name", ["eksperiment", "Experimento", "eksperyment_grupa", "эксперимент", "testGruppe", "实验组", "wariant_ab"]
)
def test_names_of_a_tests_group(name: str) -> None:
    assert states.is_of_test(pl.Series(name, ["x", "y"])) == "named like a test's group"


CONTROLS = [
    "control",
    "Kontrolle",
    "kontroll",
    "контроль",
    "controllo",
    "contrôle",
    "对照组",
    "control_b",
    "Control v2",
]


@pytest.mark.parametrize("value", CONTROLS)
def test_one_of_its_texts_is_control(value: str) -> None:
    why = states.is_of_test(pl.Series("arm_7", [value, "rank_v3", None]))
    assert why == f"one of its 2 texts is {value!r}, as of a test's groups"


@pytest.mark.parametrize("value", ["pest control", "controller", "remote control"])
def test_control_of_something_is_no_group(value: str) -> None:
    assert states.is_of_test(pl.Series("topic", [value, "news", "sports"])) is None
    assert states.is_of_test(pl.Series("topic", ["control", *(f"t{k}" for k in range(12))])) is None, "many texts"


def test_init_leaves_totals_and_groups_out(tmp_path: Path) -> None:
    x, rng = unseen.drawn(0), np.random.default_rng(1)
    arms = pl.Series(["kontroll", "rang_v3"]).gather(x["user"] % 2)
    items = pl.DataFrame(
        {
            "item_id": np.arange(unseen.ITEMS),
            "foresporsler_totalt": rng.permutation(unseen.ITEMS) // 2,
            "vurdering": np.linspace(3, 5, unseen.ITEMS).round(1),
            "sengeplasser": rng.permutation(unseen.ITEMS) // 2,
        }
    )

    def write(home: Path) -> None:
        daily(frame(versjon=arms))(home)
        items.write_parquet(home / "items.parquet")

    ended, raw, text = made(tmp_path, write)
    assert ended.code == 0, ended.err
    mine: dict[str, Any] = features(raw)
    assert "sengeplasser" in mine and not {"foresporsler_totalt", "vurdering", "versjon"} & {*mine}
    held = [line for line in text.splitlines() if line.startswith("  # - {name: ")]
    assert [line.split(",")[0].split()[-1] for line in held] == ["foresporsler_totalt", "vurdering"]
    assert "# versjon: not used: one of its 2 texts is 'kontroll', as of a test's groups: it ends with" in text
