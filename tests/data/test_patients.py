"""Who is who: patients are told apart by source, and one without a name stands for itself."""

from cxrsynth.data.patients import patient_id


def test_equal_names_of_two_hospitals_are_two_patients() -> None:
    rows = [{"key": "a", "patient": "17", "source": one} for one in ("clinic", "hospital")]
    assert len({patient_id(row) for row in rows}) == 2


def test_an_image_without_a_patient_stands_for_itself() -> None:
    assert patient_id({"key": "a", "source": "clinic"}) != patient_id({"key": "b", "source": "clinic"})
