"""A library loads releases and definitions by their names, and knows its folders."""

import pytest

from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket
from shared.errors import ModelError
from tests.handmade import publish_handmade
from tests.trainings import add_definition


@pytest.fixture
def library(tmp_path) -> ModelLibrary:
    return ModelLibrary(LocalBucket(tmp_path / "bucket"), tmp_path / "home" / "releases", add_definition(tmp_path / "more", "guessing"))


def test_a_release_is_loaded_once_and_its_private_copy_is_gone(library):
    release = publish_handmade(library.bucket)
    loaded = library.release(release)
    assert loaded.manifest.release == release
    assert library.release(release) is loaded
    assert list(library.temporary_folders[0].iterdir()) == []


def test_definitions_of_the_package_and_of_the_folder_are_found(library):
    assert {"v1", "guessing"} <= set(library.definition_names())
    assert library.definition("guessing").folder == library.definitions / "guessing"
    with pytest.raises(ModelError, match="there is no definition 'nothing'"):
        library.definition("nothing")


def test_the_folders_that_remain_of_a_killed_process_are_known(library):
    assert library.temporary_folders == [library.cache / ".loading", library.cache.parent / "staging"]
