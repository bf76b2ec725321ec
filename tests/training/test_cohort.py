"""Manifests say all that is wrong with them, splits never share a patient, published sets are checked."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from PIL import Image
from pydicom.data import get_testdata_file
from scipy.io import savemat

from training.cohort.benchmark import Benchmark, benchmark_examples, read_benchmark, write_cohort
from training.cohort.byra import ImportRefusedError, checksum, import_byra
from training.cohort.clinical import NAMES, decode, encode
from training.cohort.commands import cohort
from training.cohort.examples import read_examples
from training.cohort.frames import check_kind, read_frame
from training.cohort.manifest import Frame, ManifestError, by_study, read_manifest, write_manifest
from training.cohort.splits import LeakError, folds, held_back, refuse_leaks

HEADER = "patient,study,file,view,grade,fat_fraction_percent,label_source,age_years,sex,size_m,weight_kg,reader_ann"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), 3, seed=5)


def manifest(folder, *rows, header=HEADER):
    for name in ("a.png", "b.png"):
        Image.new("L", (32, 32)).save(folder / name)
    path = folder / "manifest.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_row_is_read_with_blanks_as_unknown(tmp_path):
    path = manifest(tmp_path, "p1,s1,a.png,intercostal,S2,,biopsy,54,F,1.7,0,1")
    (frame,) = read_manifest(path)
    assert frame.true_grade == 2
    assert frame.readers == {"ann": 1}
    assert frame.fat_fraction_percent is None
    assert frame.file == tmp_path / "a.png"
    scaled, known = encode(frame.clinical)
    assert decode(scaled, known) == pytest.approx(
        {"age_years": 54.0, "sex_female": 1.0, "size_m": 1.7}
    )  # 0 kg is unknown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it holds no row"),
        (
            HEADER + "\np1,s1,a.png,,S2,,biopsy,54,F,1,66,80,\n",
            "row 2 has 13 fields, more than the header's 12; is there",
        ),
        (HEADER + ",sex\n", "the column 'sex' is given twice"),
        (HEADER + "\n,s1,a.png,,S2,,biopsy,,,,,\n", "row 2: patient is blank"),
        (HEADER + "\np1,s1,manifest.csv,,S2,,biopsy,,,,,\n", "manifest.csv is neither DICOM nor a picture"),
    ],
)
def test_check_says_what_is_wrong_in_a_sentence(tmp_path, text, words):
    path = manifest(tmp_path)
    path.write_text(text)
    told = CliRunner().invoke(cohort, ["check", str(path)])
    assert told.exit_code == 1
    assert words in told.output
    assert "biopsy" not in told.output, "no row is repeated"
    assert "it is a folder" in CliRunner().invoke(cohort, ["check", str(tmp_path)]).output


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_a_spreadsheets_table_is_read(tmp_path, separator):
    """Of a German Excel: byte order mark, decimal commas, percent signs, blank rows, backslashes, umlauts."""
    path = manifest(tmp_path)
    (tmp_path / "bilder").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "bilder" / "a.png")
    rows = [
        (HEADER + ",scanner,,").split(","),
        ["p1", "s1", "bilder\\a.png", "", "", "12,5 %", "mri-pdff", "54", "F", "1,66", "80,5", "", "Gerät Ä", "", ""],
        [""] * 15,
        ["p2", "s2", "b.png", "", "s2", "", "biopsy", "", "", "", "", "", "", "", ""],
    ]
    quoted = [[f'"{cell}"' if separator in cell else cell for cell in row] for row in rows]
    path.write_bytes(b"\xef\xbb\xbf" + ("\r\n".join(separator.join(row) for row in quoted) + "\r\n\r\n").encode())
    first, second = read_manifest(path)
    assert (first.fat_fraction_percent, first.size_m, first.weight_kg) == (12.5, 1.66, 80.5)
    assert first.file.is_file()
    assert first.scanner == "Gerät Ä"
    assert second.true_grade == 2


def test_rows_are_counted_as_a_spreadsheet_counts_them(tmp_path):
    path = manifest(tmp_path, "", ",,,,,,,,,,,", "p1,s1,a.png,,7,,biopsy,,,,,")
    with pytest.raises(ManifestError, match="row 4: grade"):
        read_manifest(path)


def test_alike_rows_are_one_reason_and_hide_no_other(tmp_path):
    rows = [f"p{one},s{one},none{one}.png,,moderate,,biopsy,,w,170,," for one in range(300)]
    with pytest.raises(ManifestError) as error:
        read_manifest(manifest(tmp_path, *rows, "p,s,a.png,,1,,biopsy,700,,,,"))
    text = str(error.value)
    assert "rows 2, 3, 4, 5, 6 and 295 more: grade" in text
    assert "not 'moderate' (0 to 3, or S0 to S3)" in text
    assert "not 'w'" in text
    assert "not '170' (metres, as 1.70)" in text
    assert "row 302: age_years" in text
    with pytest.raises(ManifestError, match=r"row 2: there is no file .*none0.png, and 299 more of 300 rows have none"):
        read_manifest(manifest(tmp_path, *(row.replace("moderate", "2").replace(",w,170", ",,") for row in rows)))


def test_other_encodings_and_workbooks_say_what_to_save(tmp_path):
    path = manifest(tmp_path)
    for encoding in ("cp1252", "utf-16"):
        path.write_text(HEADER + "\np1,s1,a.png,,1,,biopsy,,,,,Ä\n", encoding=encoding)
        with pytest.raises(ManifestError, match="which spreadsheets save as 'CSV UTF-8'"):
            read_manifest(path)
    with pytest.raises(ManifestError, match="it is a workbook; save its sheet"):
        read_manifest(path.rename(tmp_path / "cohort.xlsx"))


def test_shares_are_not_taken_for_percent(tmp_path):
    """0.25 would be a healthy liver."""
    rows = [f"p{one},s{one},{one}.png,,,{fat},mri-pdff,,,,," for one, fat in enumerate((0.04, 0.1, 0.25, 0.3, 0.02))]
    for one in range(6):
        Image.new("L", (32, 32)).save(tmp_path / f"{one}.png")
    with pytest.raises(ManifestError, match=r"all 5 fat fractions .* shares of one, not percent: give 12 for 0\.12"):
        read_manifest(manifest(tmp_path, *rows))
    assert len(read_manifest(manifest(tmp_path, *rows, "p5,s5,5.png,,,12,mri-pdff,,,,,"))) == 6


def test_what_rows_of_a_study_say_of_the_patient_agrees_and_is_gathered(tmp_path, phantoms):
    rows = ["p1,s1,a.png,,1,,biopsy,54,F,,,", "p1,s1,b.png,,1,,biopsy,54,M,,80,2"]
    with pytest.raises(ManifestError, match="study 's1' has 2 values of sex: F, M") as error:
        read_manifest(manifest(tmp_path, *rows))
    assert "several studies" not in str(error.value)
    with pytest.raises(ManifestError, match="patient 'p1' has 2 values of sex in several studies"):
        read_manifest(manifest(tmp_path, rows[0], rows[1].replace("s1", "s2")))
    frames = [row for row in read_manifest(phantoms) if row.patient == "phantom-5-0000"]
    scarce = [frames[0].model_copy(update={"sex": None, "weight_kg": None, "scanner": ""}), *frames[1:]]
    scarce[1] = scarce[1].model_copy(update={"readers": {"ann": 2}})
    examples, _ = read_examples(scarce, 32)
    assert examples.known[0].all()
    assert examples.readers[0] == {"ann": 2}
    assert examples.scanners[0] == frames[0].scanner


def test_check_says_what_is_strange_and_finds_copies(tmp_path):
    path = manifest(tmp_path, "p1,s1,a.png,,0,30,mri-pdff,54,F,1.7,,", "p2,s2,b.png,,1,8,mri-pdff,64,F,,,")
    told = CliRunner().invoke(cohort, ["check", str(path)])
    assert "b.png of study 's2' holds the same bytes as a.png of study 's1'" in told.output
    Image.new("L", (32, 32), 9).save(tmp_path / "b.png")
    told = CliRunner().invoke(cohort, ["check", str(path)]).output
    assert "fat_fraction_percent: 8 to 30, median 19, unknown in 0 studies" in told
    assert "size_m: 1.7 to 1.7, median 1.7, unknown in 1 studies" in told
    assert "1 studies, as 's1', have another grade than their fat fraction gives" in told


def test_a_refused_file_leaves_no_folder(tmp_path):
    savemat(tmp_path / "w.mat", {"data": np.zeros((2, 2))})
    with pytest.raises(ImportRefusedError):
        import_byra(tmp_path / "w.mat", tmp_path / "out", expected_md5=None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "percent", "grade"),
    [("mri-pdff", 6.3, 0), ("mri-pdff", 6.4, 1), ("mri-pdff", 22.1, 3), ("biopsy", 6.3, 1), ("biopsy", 40, 2)],
)
def test_cut_offs_are_those_of_the_labels_source(tmp_path, source, percent, grade):
    path = manifest(tmp_path, f"p1,s1,a.png,,,{percent},{source},,,,,")
    assert read_manifest(path)[0].true_grade == grade


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("p1,s1,a.png,sideways,1,,biopsy,,,,,", "row 2: view"),
        ("p1,s1,a.png,,5,,biopsy,,,,,", "row 2: grade"),
        ("p1,s1,a.png,,,,biopsy,,,,,", "neither grade nor fat_fraction_percent"),
        ("p1,s1,a.png,,,120,biopsy,,,,,", "fat_fraction_percent"),
        ("p1,s1,a.png,,1,,guess,,,,,", "label_source"),
        ("p1,s1,c.png,,1,,biopsy,,,,,", "there is no file"),
        ("p1,s1,a.png,,1,,biopsy,54,F,0.2,,", "no height"),
        (",s1,a.png,,1,,biopsy,,,,,", "patient"),
    ],
)
def test_rows_that_are_wrong_are_named(tmp_path, row, said):
    with pytest.raises(ManifestError, match="row 2") as error:
        read_manifest(manifest(tmp_path, row))
    assert said in str(error.value)


def test_every_reason_is_said_at_once(tmp_path):
    path = manifest(
        tmp_path, "p1,s1,a.png,,1,,biopsy,,,,,", "p2,s1,b.png,,2,,biopsy,,,,,", "p2,s2,a.png,,x,,biopsy,,,,,"
    )
    with pytest.raises(ManifestError) as error:
        read_manifest(path)
    text = str(error.value)
    assert "study 's1' has 2 patients" in text
    assert "study 's1' has 2 grades" in text
    assert "row 4: grade" in text


def test_unknown_and_missing_columns_are_named_with_a_hint(tmp_path):
    with pytest.raises(ManifestError, match="'grade' meant") as error:
        read_manifest(manifest(tmp_path, "p1,s1,a.png,1", header="patient,study,file,grad"))
    assert "'label_source' is missing" in str(error.value)
    with pytest.raises(ManifestError, match="no such file"):
        read_manifest(tmp_path / "none.csv")


def test_a_frame_given_twice_is_refused(tmp_path):
    row = "p1,s1,a.png,,1,,biopsy,,,,,"
    with pytest.raises(ManifestError, match="given twice"):
        read_manifest(manifest(tmp_path, row, row))


def test_written_manifests_read_back(phantoms, tmp_path):
    frames = read_manifest(phantoms)
    assert len(by_study(frames)) == 3
    again = tmp_path / "again.csv"
    write_manifest(again, frames)
    assert read_manifest(again) == frames


def test_parquet_reads_as_csv_does(phantoms, tmp_path):
    pytest.importorskip("pyarrow")
    frames = read_manifest(phantoms)
    path = phantoms.parent / "manifest.parquet"
    write_manifest(path, frames)
    assert read_manifest(path) == frames


def test_phantoms_of_another_seed_are_other_patients_of_another_site(phantoms, tmp_path):
    away = read_manifest(write_cohort(tmp_path, 1, seed=6, foreign=True))
    home = read_manifest(phantoms)
    refuse_leaks(home=[row.patient for row in home], external=[row.patient for row in away])
    assert not {row.site for row in home} & {row.site for row in away}


def test_examples_of_a_manifest(phantoms):
    examples, left_out = read_examples(read_manifest(phantoms), 32)
    assert examples.views.shape == (3, 4, 3, 32, 32)
    assert not left_out
    assert examples.known[:, NAMES.index("body_mass_index")].all()
    two = examples.with_views(["left-lobe", "subcostal"])
    assert two.names.tolist() == [["left-lobe", "subcostal"]] * 3
    assert np.array_equal(two.views[:, 1], examples.views[np.arange(3), (examples.names == "subcostal").argmax(axis=1)])


def test_frames_without_a_sector_are_left_out_and_said(phantoms, tmp_path):
    black = tmp_path / "black.png"
    Image.new("L", (64, 64)).save(black)
    frames = [frame for frame in read_manifest(phantoms) if frame.patient == "phantom-5-0000"]
    more = [Frame(patient="x", study="x-1", file=black, grade=1, label_source="reader")]
    examples, left_out = read_examples([*frames, *more], 32)
    assert examples.studies.tolist() == ["phantom-5-0000-1"]
    assert any("no ultrasound sector" in line for line in left_out)
    assert any("no usable frame" in line for line in left_out)


def test_dicom_frames_are_read_with_their_region():
    colour, _ = read_frame(Path(get_testdata_file("examples_palette.dcm")))
    assert colour.ndim == 3
    assert colour.dtype == np.uint8
    path = Path(get_testdata_file("examples_ybr_color.dcm"))
    first, last = read_frame(path, 0)[0], read_frame(path, int(pydicom.dcmread(path).NumberOfFrames) - 1)[0]
    assert first.shape == last.shape
    with pytest.raises(ValueError, match="no frame 999"):
        read_frame(path, 999)


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_deep_pictures_are_refused_not_cut_off_at_white(tmp_path, mode):
    path = tmp_path / "deep.tif"
    Image.fromarray(np.full((8, 8), 3000, np.uint16 if mode == "I;16" else np.float32)).save(path)
    for look in (check_kind, read_frame):
        with pytest.raises(ValueError, match=r"deep\.tif has more than 8 bits a pixel"):
            look(path)


def test_dicom_without_a_usable_picture_is_refused_in_a_sentence(tmp_path):
    source = Path(get_testdata_file("examples_ybr_color.dcm"))
    whole, cut = source.read_bytes(), tmp_path / "cut.dcm"
    cut.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ValueError, match=r"cut\.dcm: its pixels cannot be decoded"):
        read_frame(cut, 29)
    cut.write_bytes(whole[:600])
    computed = Path(get_testdata_file("CT_small.dcm"))
    for look in (check_kind, read_frame):  # what the beginning tells, the check finds
        with pytest.raises(ValueError, match="holds no picture, or is cut off"):
            look(cut)
        with pytest.raises(ValueError, match="pixels of 16 bits; ultrasound has 8"):
            look(computed)
        with pytest.raises(ValueError, match="30 frames, counted from 0; there is no frame 30"):
            look(source, 30)


def test_what_is_no_picture_is_refused(tmp_path):
    path = tmp_path / "words.png"
    path.write_text("not a picture")
    with pytest.raises(ValueError, match=r"words\.png"):
        read_frame(path)


def test_folds_keep_patients_together_and_spread_grades():
    patients = [f"p{index // 2}" for index in range(80)]
    grades = [index // 2 % 4 for index in range(80)]
    fold = folds(patients, grades, 5, seed=1)
    assert all(len({fold[i] for i in range(80) if patients[i] == name}) == 1 for name in set(patients))
    counts = np.array([[np.sum((fold == k) & (np.array(grades) == g)) for g in range(4)] for k in range(5)])
    assert counts.min() == counts.max() == 4
    assert np.array_equal(fold, folds(patients, grades, 5, seed=1))
    with pytest.raises(ValueError, match="41 folds of 40 patients"):
        folds(patients, grades, 41)


def test_patients_held_back_are_whole():
    patients = ["a", "a", "b", "c", "d"]
    stop = held_back(patients, 0.25, seed=3)
    assert 1 <= len({p for p, own in zip(patients, stop, strict=True) if own}) <= 2
    assert not {p for p, own in zip(patients, stop, strict=True) if own} & {
        p for p, own in zip(patients, stop, strict=True) if not own
    }


def test_leaks_are_refused():
    refuse_leaks(train=["a"], test=["b"])
    with pytest.raises(LeakError, match="in train and in test"):
        refuse_leaks(train=["a", "b"], test=["b"])


def byra_file(path, patients=3, fields=("id", "class", "fat", "images"), shape=(2, 434, 636)):
    entries = np.zeros((1, patients), dtype=[(name, object) for name in fields])
    for index in range(patients):
        values = {
            "id": index + 1, "class": int(index > 0), "fat": [2.0, 40.0, 80.0][index % 3],
            "images": np.full(shape, index, np.uint8),
        }  # fmt: skip
        for name in fields:
            entries[name][0, index] = np.array(values[name])
    savemat(path, {"data": entries})
    return path


def test_byra_files_of_the_published_structure_are_imported(tmp_path):
    path = byra_file(tmp_path / "data.mat")
    frames = read_manifest(import_byra(path, tmp_path / "out", expected_md5=None))
    assert len(frames) == 6
    assert [rows[0].true_grade for rows in by_study(frames).values()] == [0, 2, 3]
    assert frames[0].view == "liver-kidney"


def test_byra_files_with_another_checksum_or_structure_are_refused(tmp_path):
    path = byra_file(tmp_path / "data.mat")
    with pytest.raises(ImportRefusedError, match="MD5"):
        import_byra(path, tmp_path / "out")
    with pytest.raises(ImportRefusedError, match="published are 55"):
        import_byra(path, tmp_path / "out", expected_md5=checksum(path))
    other = byra_file(tmp_path / "other.mat", fields=("id", "class", "images"))
    with pytest.raises(ImportRefusedError, match="fat"):
        import_byra(other, tmp_path / "out", expected_md5=None)
    words = tmp_path / "words.mat"
    words.write_text("none")
    with pytest.raises(ImportRefusedError, match="not a MATLAB file"):
        import_byra(words, tmp_path / "out", expected_md5=None)


def test_the_benchmark_is_the_same_again_and_its_sites_differ(tmp_path):
    tiny = Benchmark(name="t", setting="t", seed=1, folds=2, size=32, patients=4, external_patients=3)
    home, away = (benchmark_examples(tiny, site, tmp_path / "a", workers=1) for site in ("home", "external"))
    again = benchmark_examples(tiny, "home", tmp_path / "b", workers=1)
    kept = benchmark_examples(tiny, "home", tmp_path / "a", workers=1)
    assert np.array_equal(home.views, again.views)
    assert np.array_equal(home.views, kept.views)
    assert kept.patients.tolist() == home.patients.tolist()
    assert not set(home.patients) & set(away.patients)
    assert (~home.known).any()
    with pytest.raises(ValueError, match="use one of"):
        read_benchmark("huge")


def test_commands(phantoms, tmp_path):
    found = CliRunner().invoke(cohort, ["check", str(phantoms)])
    assert found.exit_code == 0
    assert "3 patients, 3 studies, 12 frames" in found.output
    refused = CliRunner().invoke(cohort, ["check", str(tmp_path / "none.csv")])
    assert refused.exit_code == 1
    assert "no such file" in refused.output
    written = CliRunner().invoke(cohort, ["phantoms", str(tmp_path / "out"), "--patients", "1"])
    assert written.exit_code == 0
    mat = byra_file(tmp_path / "data.mat")
    assert CliRunner().invoke(cohort, ["byra", str(mat), str(tmp_path / "b")]).exit_code == 1
    assert CliRunner().invoke(cohort, ["byra", str(mat), str(tmp_path / "b"), "--any-file"]).exit_code == 0
