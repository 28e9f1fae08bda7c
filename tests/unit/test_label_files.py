"""Labels as people have them: separators, headings, names with blanks, class names and synsets with a class list."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from models import conv_net, floats
from quantlab.data.class_map import read_class_map
from quantlab.data.folder import image_files
from quantlab.data.label_file import read_label_lines
from quantlab.data.labels import Samples, read_labels
from quantlab.errors import DataError

FILES = ["a.png", "img 2.png", "sub/c d.png"]
SYNSETS = "n01440764 tench, Tinca tinca\nn01443537 goldfish\nn01484850 great white shark\n"
LABELS = {
    "file class": "a.png 2\nimg 2.png 0\nsub/c d.png 1\n",
    "file class with a heading": "filename label\na.png 2\nimg 2.png 0\nsub/c d.png 1\n",
    "many blanks": "a.png    2\nimg 2.png\t 0\nsub/c d.png  1\n",
    "class file": "2 a.png\n0 img 2.png\n1 sub/c d.png\n",
    "quoted": '"a.png" 2\n"img 2.png" 0\n"sub/c d.png" 1\n',
    "csv": "a.png,2\nimg 2.png,0\nsub/c d.png,1\n",
    "csv with a heading": "file,label\na.png,2\nimg 2.png,0\nsub/c d.png,1\n",
    "csv, label first": "label,file\n2,a.png\n0,img 2.png\n1,sub/c d.png\n",
    "csv, label first, no heading": "2,a.png\n0,img 2.png\n1,sub/c d.png\n",
    "semicolons": "file;label\na.png;2\nimg 2.png;0\nsub/c d.png;1\n",
    "tsv": "a.png\t2\nimg 2.png\t0\nsub/c d.png\t1\n",
    "windows": "sub\\c d.png,1\r\n.\\a.png,2\r\nimg 2.png,0\r\n",
    "no suffix": "ImageId,label\na,2\nimg 2,0\nc d,1\n",
    "a folder before": "val/a.png 2\nval/img 2.png 0\nval/sub/c d.png 1\n",
    "three columns by heading": "index,filename,label\n0,a.png,2\n1,img 2.png,0\n2,sub/c d.png,1\n",
    "three columns by content": "a.png,2,2.0\nimg 2.png,0,0.0\nsub/c d.png,1,1.0\n",
    "a comma at the end": "a.png,2,\nimg 2.png,0,\nsub/c d.png,1,\n",
    "blanks before quotes": '"a.png", "2"\n"img 2.png", "0"\n"sub/c d.png", "1"\n',
    "headings of the owner": "id_code,diagnosis\na.png,2\nimg 2,0\nc d,1\n",
    "split and class": "split,path,class_id,class_name\nval,a.png,2,x\nval,img 2.png,0,y\ntest,c d.png,1,z\n",
}
NAMED = {
    "synsets": "a.png n01484850\nimg 2.png n01440764\nsub/c d.png n01443537\n",
    "names": "file,label\na.png,great white shark\nimg 2.png,\"tench, Tinca tinca\"\nsub/c d.png,Goldfish\n",
    "names with blanks": "a.png great white shark\nimg 2.png tench, Tinca tinca\nsub/c d.png goldfish\n",
    "underscores": "a.png great_white_shark\nimg 2.png n01440764\nsub/c d.png GOLDFISH\n",
    "boxes": "ImageId,PredictionString\na,n01484850 85 1 499 272 n01484850 1 2 3 4\nimg 2,n01440764 1 2 3 4\n"
    "c d,n01443537 5 6 7 8\n",
    "number, synset, name": "file,class_id,synset\na.png,2,n01484850\nimg 2.png,0,n01440764\nc d.png,1,n01443537\n",
}  # fmt: skip
LISTS = {
    "names.txt": ("tench\ngoldfish\ngreat white shark\n", ("tench", 0)),
    "synsets.txt": (SYNSETS, ("n01443537", 1)),
    "only_synsets.txt": ("n01440764\nn01443537\n", ("n01443537", 1)),
    "numbered.txt": ("0 tench\n5: goldfish\n2, great white shark\n", ("goldfish", 5)),
    "keras.json": ('{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}', ("goldfish", 1)),
    "list.json": ('["tench", "goldfish"]', ("goldfish", 1)),
    "dict.json": ('{"0": "tench", "7": "goldfish"}', ("goldfish", 7)),
    "class_to_idx.json": ('{"n01440764": 0, "n01443537": 1}', ("n01443537", 1)),
    "table.csv": ('index,wnid,name\n3,n01440764,"tench, Tinca"\n4,n01443537,goldfish\n', ("tench, tinca", 3)),
    "table.tsv": ("name\tnumber\ntench\t3\ngoldfish\t4\n", ("goldfish", 4)),
    "rows.csv": ("synset,name\nn01440764,tench\nn01443537,goldfish\n", ("goldfish", 1)),
    "commas.txt": ("tench, Tinca tinca\ngoldfish\nshark, great, white\n", ("goldfish", 1)),
    "one_comma.txt": ("tench, Tinca tinca\ngoldfish, Carassius\n", ("goldfish, carassius", 1)),
    "map_clsloc.txt": ("n01440764 449 tench\nn01443537 450 gold_fish\n", ("gold fish", 450)),
    "synset_number.csv": ("n01443537,1,goldfish\nn01440764,0,tench\n", ("goldfish", 1)),
    "synset_number.tsv": ("n01443537\t8\nn01440764\t7\n", ("n01443537", 8)),
    "number_synset.txt": ("4 n01440764 tench\n5 n01443537 goldfish\n", ("goldfish", 5)),
    "one_column.csv": ('"name"\n"tench"\n"goldfish"\n', ("goldfish", 1)),
    "wnids.csv": ("wnid\nn01440764\nn01443537\n", ("n01443537", 1)),
    "name_and_more.csv": ("name,group\ntench,fish\ngoldfish,fish\n", ("goldfish", 1)),
    "semicolons.csv": ("id;name\n3;tench\n4;goldfish\n", ("goldfish", 4)),
    "more_numbers.csv": ("images,id,name\n12,3,tench\n30,4,goldfish\n", ("goldfish", 4)),
    "pandas.csv": (",class_id,name\n0,5,tench\n1,3,goldfish\n", ("goldfish", 3)),
    "tab_inside.csv": ('id,name\n3,"tench\t"\n4,goldfish\n', ("tench", 3)),
    "blanks.txt": ("id name\n3 tench\n4 goldfish\n", ("goldfish", 4)),
    "classic_mac.txt": ("tench\rgoldfish\r", ("goldfish", 1)),
    "decomposed.txt": ("tench\ncafe\u0301\n", ("caf\u00e9", 1)),
    "python.txt": ("{0: 'tench, Tinca tinca',\n 1: \"potter's wheel\"}", ("potter's wheel", 1)),
    "config.json": ('{"id2label": {"0": "tench", "1": "goldfish"}, "label2id": {}}', ("goldfish", 1)),
}


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    (tmp_path / "synsets.txt").write_text(SYNSETS)
    return tmp_path / "synsets.txt"


@pytest.mark.parametrize("case", LABELS)
def test_labels_of_files_are_found_however_they_are_written(tmp_path: Path, case: str) -> None:
    (tmp_path / "labels").write_text(LABELS[case])
    assert read_labels(tmp_path / "labels", "", Samples(3, 3, FILES)).tolist() == [2, 0, 1]


@pytest.mark.parametrize("heading", ["label,image", "label,id"])
def test_heading_says_which_of_two_numbers_is_the_label(tmp_path: Path, heading: str) -> None:
    (tmp_path / "labels").write_text(f"{heading}\n1,0\n2,1\n0,2\n")
    assert read_labels(tmp_path / "labels", "", Samples(3, 3, ["0.png", "1.png", "2.png"])).tolist() == [1, 2, 0]


def test_names_with_accents_are_one_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("caf\u00e9.png,1\ncafe\u0301 2.png,2\n", "utf-8")
    names = ["cafe\u0301.png", "caf\u00e9 2.png"]  # as macOS and others write them
    assert read_labels(tmp_path / "labels", "", Samples(2, 2, names)).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (",file,label\n0,a.png,cat\n1,b.png,dog\n", "'0,a.png,cat' has no class number Hint: .* --classes"),
        ("file,width,class\na.png,8,cat\nb.png,8,dog\n", "'a.png,8,cat' has no class number"),
        ("7,a.png,cat\n9,b.png,dog\n", "not clear which are the files"),
        ("a.png,7,cat\nb.png,9,dog\n", "not clear which are the files"),
        ("a.png,8,cat\nb.png,8,dog\n", "not clear which are the files"),
    ],
)
def test_number_beside_the_name_of_a_class_is_not_taken_for_it(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "labels").write_text(text)
    with pytest.raises(DataError, match=match):
        read_labels(tmp_path / "labels", "", Samples(2, 2, ["a.png", "b.png"]))


def test_two_columns_of_numbers_under_unknown_headings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("id_code,diagnosis\n1,0\n0,1\n")
    with pytest.raises(DataError, match="2 columns, of which it is not clear"):
        read_labels(tmp_path / "labels", "", Samples(2, 2, ["0.png", "1.png"]))


@pytest.mark.parametrize("case", NAMED)
def test_names_and_synsets_are_read_by_the_class_list(tmp_path: Path, classes: Path, case: str) -> None:
    (tmp_path / "labels").write_text(NAMED[case])
    samples = Samples(3, 3, FILES, read_class_map(classes))
    assert read_labels(tmp_path / "labels", "", samples).tolist() == [2, 0, 1]


@pytest.mark.parametrize("text", ["goldfish\ngreat white shark\n", "label\ngoldfish\ngreat white shark\n", "1\n2\n"])
def test_a_class_per_line_may_be_a_name(tmp_path: Path, classes: Path, text: str) -> None:
    (tmp_path / "labels").write_text(text)
    samples = Samples(2, 2, None, read_class_map(classes))
    assert read_labels(tmp_path / "labels", "", samples).tolist() == [1, 2]


def test_first_column_that_counts_the_samples_of_arrays_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("id,label\n1,7\n2,3\n")
    assert read_labels(tmp_path / "labels", "", Samples(2, 2)).tolist() == [7, 3]


@pytest.mark.parametrize("name", LISTS)
def test_class_lists_of_every_kind(tmp_path: Path, name: str) -> None:
    text, (called, number) = LISTS[name]
    (tmp_path / name).write_text(text)
    assert read_class_map(tmp_path / name).find(called) == number


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "it has no classes|line 1 is empty"),
        ("tench\n\nshark\n", "line 2 is empty, which leaves open"),
        ('{"a": "b"}', "neither its keys nor its values"),
        ('{"a": 0, "b": 0.5}', "neither its keys nor its values"),
        ('{"a": 0, "b": 10000000000}', "neither its keys nor its values"),
        ('["a", 3]', "'3' is no name of a class"),
        ("index,name\n1,a\n1,b\n", "is there twice"),
        ("{", "Expecting"),
        ("{0: 'a', 0: 'b'}", "a class is there twice"),
        ("{0: print()}", "Expecting"),
        ("background\nn01440764 tench\nn01443537 goldfish\n", "line 1 is 'background' and every other"),
        ("species,family\ncat,felidae\ndog,canidae\n", "leaves open whether it is a heading"),
        ("name,images\ncat,12\ndog,30\n", "which column has the numbers of the classes"),
        ("cat,12,0\ndog,30,1\n", "which column has the numbers of the classes"),
        ("n01440764 1\nn01443537 1\n", "a class number is there twice"),
        ("cat\n''\n", "class 1 has no name"),
        ("# the classes\ncat\n", "line 1 begins with '#'"),
        ("3\n0\n3\n1\n", "'3' is the name of two classes: is it a list of labels"),
        ('["3", "0", "3"]', "'3' is the name of two classes"),
        ("\0\0\n", "it is no text"),
        ("dog 1\ntench 0\n", "its lines are counted, but not in order, such as 'dog 1'"),
        ("dog: 2\ntench: 0\ncat: 1\n", "counted, but not in order"),
        ("1. dog\n0. tench\n", "counted, but not in order, such as '1. dog'"),
        ("\n".join(f"{(7 * k) % 20} name" for k in range(20) if k != 3) + "\n1\n", "counted, but not in order"),
    ],
)
def test_class_list_that_leaves_numbers_open_is_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "list").write_text(text)
    with pytest.raises(DataError, match=f"class list .*({match})"):
        read_class_map(tmp_path / "list")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a.png,shark\nimg 2.png,1\nc d.png,1\n", "'a.png,shark' has no class number, and .* no class of that name"),
        (
            "a.png,3\nimg 2.png,1\nc d.png,1\n",
            "class 3 is not in .*, whose classes are 0 to 2 Hint: do the labels count",
        ),
        ("a.png,1,1,2\nimg 2.png,1,1,0\nc d.png,1,1,0\n", "4 columns, of which it is not clear which are the files"),
        ("a.png,1\nimg 2.png\n", "line 2: 1 columns, expected 2"),
    ],
)
def test_labels_that_are_not_clear_are_refused(tmp_path: Path, classes: Path, text: str, match: str) -> None:
    (tmp_path / "labels").write_text(text)
    with pytest.raises(DataError, match=match):
        read_labels(tmp_path / "labels", "", Samples(3, 3, FILES, read_class_map(classes)))


def test_number_that_is_the_name_of_another_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(json.dumps({"0": 0, "1": 1, "10": 2}))
    known = read_class_map(tmp_path / "classes.json")
    with pytest.raises(DataError, match="'10' is the number of a class and the name of class 2"):
        read_label_lines("0\n10\n", Path("labels"), known)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("id,name\n0,7\n1,3\n", {0: "7", 1: "3"}),
        ("name,id\n0,1\n1,0\n", {1: "0", 0: "1"}),
        ("class 1\nclass 2\n", {0: "class 1", 1: "class 2"}),
        ("/a/airfield 0\n/a/cabin 1\n", {0: "/a/airfield 0", 1: "/a/cabin 1"}),
        ("iphone 6\niphone 5\niphone 12\n", {0: "iphone 6", 1: "iphone 5", 2: "iphone 12"}),
        ("707-320\n727-200\n", {0: "707-320", 1: "727-200"}),
        ("3 musketeers\nsnickers\nmars\n", {0: "3 musketeers", 1: "snickers", 2: "mars"}),
    ],
)
def test_numbers_that_are_names_stay_names(tmp_path: Path, text: str, names: dict[int, str]) -> None:
    (tmp_path / "list").write_text(text)
    assert read_class_map(tmp_path / "list").names == names


def test_name_of_two_classes_is_none(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("n02012849 crane\nn03126707 crane\n")
    found = read_class_map(tmp_path / "list")
    assert (found.find("crane"), found.find("n03126707"), dict(found.names)) == (None, 1, {0: "crane", 1: "crane"})


@pytest.mark.parametrize(("text", "line"), [('"3\n1\n', 1), ('3\n1"\n', 2), ("Class ID\nClass ID\n3\n1\n2\n", 2)])
def test_quote_that_is_not_closed_and_a_second_heading_are_no_labels(text: str, line: int) -> None:
    with pytest.raises(DataError, match=f"line {line}: .* has no class number"):
        read_label_lines(text, Path("labels"))


def test_names_without_a_class_list_get_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no class number Hint: .* --classes FILE"):
        read_label_lines("a.png,shark\n", Path("labels"), None, FILES)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)


def test_class_folders_take_the_numbers_of_the_class_list(tmp_path: Path, classes: Path) -> None:
    for name in ("n01484850", "n01440764"):  # a part of the classes, as a sample of ImageNet has them
        picture(tmp_path / "val" / name / "x.png")
    found = image_files(tmp_path / "val", read_class_map(classes))
    assert {f.parent.name: int(y) for f, y in zip(found.files, found.labels, strict=True)} == {
        "n01440764": 0, "n01484850": 2,
    }  # fmt: skip
    assert dict(found.class_names) == {0: "tench, Tinca tinca", 2: "great white shark"}
    picture(tmp_path / "val" / "other" / "x.png")
    with pytest.raises(DataError, match="folder .*other is none of the classes of"):
        image_files(tmp_path / "val", read_class_map(classes))


@pytest.mark.usefixtures("no_plots")
def test_names_of_classes_are_in_the_report(
    cli: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(conv_net(), "m.onnx")
    np.save("x.npy", floats(8, 3, 8, 8))
    Path("classes.txt").write_text("ant\nbee\ncat\ndog\neel\n")
    result = cli("compare", "m.onnx", "b=m.onnx", "--data", "x.npy", "--classes", "classes.txt", "-o", "r")
    assert result.code in (0, 2, 3), result.err
    if result.code == 2:
        pytest.fail(result.err)
    assert json.loads(Path("r/report.json").read_text())["comparison"]["class_names"]["1"] == "bee"
