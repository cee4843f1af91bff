"""Names in the header: what we write is read back, and hostile XML gets nowhere."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthct.volume.label_names import (
    LabelTableError,
    format_label_table,
    is_label_table,
    parse_label_table,
)

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

letters = st.characters(min_codepoint=33, max_codepoint=0x2FFF)
words = st.text(letters, min_size=1, max_size=20).filter(str.strip)


@given(st.dictionaries(st.integers(0, 65535), words))
def test_names_come_back(names):
    names = {label: name.strip() for label, name in names.items()}
    assert parse_label_table(format_label_table(names)) == names


def test_blocks_are_full_so_that_no_zero_is_appended():
    for n in range(20):
        assert (len(format_label_table({1: "x" * n})) + 8) % 16 == 0


def test_other_readers_find_the_table_where_totalsegmentator_puts_it():
    root = ET.fromstring(format_label_table({1: "spleen", 2: "kidney & <co>"}))
    labels = root.findall("./VolumeInformation/LabelTable/Label")
    assert root.tag == "CaretExtension"
    assert {int(e.attrib["Key"]): e.text for e in labels} == {1: "spleen", 2: "kidney & <co>"}


def test_totalsegmentator_s_own_layout_with_cdata_and_padding():
    xml = (
        b'<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  '
        b"<Date><![CDATA[2013-07-14T05:45:09]]></Date>   "
        b'<VolumeInformation Index="0">   <LabelTable>\n'
        b'<Label Key="1" Red="0.2" Green="0.3" Blue="0.4" Alpha="1"><![CDATA[spleen]]></Label>\n'
        b'<Label Key="10" Red="0" Green="0" Blue="1" Alpha="1"><![CDATA[lung_upper_lobe_left]]>'
        b"</Label>\n  </LabelTable>  <StudyMetaDataLinkSet>  </StudyMetaDataLinkSet>  "
        b"<VolumeType><![CDATA[Label]]></VolumeType>   </VolumeInformation></CaretExtension>\n "
    )
    assert parse_label_table(xml + b"\x00" * 11) == {1: "spleen", 10: "lung_upper_lobe_left"}


def test_labels_outside_a_table_are_no_names():
    assert parse_label_table(b'<a><Label Key="1">x</Label></a>') == {}


@pytest.mark.parametrize(
    "content",
    [
        b'<!DOCTYPE a [<!ENTITY b "boom">]><LabelTable><Label Key="1">&b;</Label></LabelTable>',
        b'<!DOCTYPE a SYSTEM "file:///etc/hostname"><LabelTable/>',
        '<!DOCTYPE a [<!ENTITY b "x">]><LabelTable/>'.encode("utf-16"),
        b"<LabelTable>",
        b"",
        b"not xml",
        b'<LabelTable><Label Key="one">x</Label></LabelTable>',
        b"<LabelTable><Label>x</Label></LabelTable>",
        b'<?xml version="1.0" encoding="KOI-99"?><LabelTable/>',
        b'<?xml version="1.0" encoding="big5"?><LabelTable/>',
        b'<?xml version="1.0" encoding="UTF-8"?><LabelTable>\xe9</LabelTable>',
        b'<LabelTable><Label Key="1">spleen</Label><Label Key="1">liver</Label></LabelTable>',
        b"<a>" + b" " * (5 << 20) + b"x</a>",
    ],
)
def test_hostile_or_broken_tables_are_refused(content):
    with pytest.raises(LabelTableError):
        parse_label_table(content)


def test_a_wrong_id_is_not_repeated_at_length():
    table = b'<LabelTable><Label Key="%s">x</Label></LabelTable>' % (b"9" * 5000)
    with pytest.raises(LabelTableError) as caught:
        parse_label_table(table)
    assert len(str(caught.value)) < 80


def test_blank_names_are_none_and_a_name_may_be_repeated():
    rows = b'<Label Key="1"> </Label>' + 2 * b'<Label Key="2">liver</Label>'
    assert parse_label_table(b"<LabelTable>" + rows + b"</LabelTable>") == {2: "liver"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_is_known_by_its_tags_even_when_cut(encoding):
    assert is_label_table("<CaretExtension><VolumeInf".encode(encoding))
    assert not is_label_table("a comment".encode(encoding))
