"""Whether the person who is looked at is the one of the run."""
from eg3d_unlearn.evaluation.same_person import another_likeness, another_person


def test_a_person_given_in_another_way_or_inverted_otherwise():
    assert 'given a person as image, this page as seed' in another_person({'given_as': 'image'}, {'given_as': 'seed'})
    assert 'inverted to 20.0 dB, that of the run to 24.0 dB' in another_person({'psnr_db': 24.0}, {'psnr_db': 20.0})
    assert another_person({'given_as': 'image', 'psnr_db': 24.0}, {'given_as': 'image', 'psnr_db': 24.3}) is None
    assert another_person({'psnr_db': 'high'}, {'psnr_db': 24.0}) is None and another_person(None, {}) is None


def test_two_seeds_are_told_apart_by_what_became_of_them():
    evidence = {'measured_by': 'a', 'likeness': {'a': {'same_photo': {'values': [0.0, 0.9, 0.03, 0.9, 0.03]}}}}
    assert another_likeness({'erased_same_photo': 0.02, 'measured_by': 'a'}, evidence) is None
    assert 'is 0.02 here and was 0.90 at the end of the run' in another_likeness({'erased_same_photo': 0.9, 'measured_by': 'a'}, evidence)
    # Nothing is known where another recogniser measured, or none did.
    assert another_likeness({'erased_same_photo': 0.9, 'measured_by': 'b'}, evidence) is None
    assert another_likeness({}, evidence) is None and another_likeness(None, evidence) is None
    assert another_likeness({'erased_same_photo': 0.9}, {'measured_by': None}) is None
