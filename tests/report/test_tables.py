from vqwave.report.tables import Column, render

COLUMNS = [Column("codec", "codec"), Column("mel", "mel", ".2f")]
ROWS = [{"codec": "a|b <c>", "mel": 0.456}, {"codec": "d", "mel": [1.0, 2.0]}, {"codec": "e"}]


def test_a_table_is_rendered_in_every_format():
    assert render(ROWS, COLUMNS) == ("| codec | mel |\n|---|---:|\n| a\\|b <c> | 0.46 |\n"
                                     "| d | 1.50 (1.00, 2.00) |\n| e | – |")
    page = render(ROWS, COLUMNS, "html")
    assert "<th>mel</th>" in page and "<td>a|b &lt;c&gt;</td><td>0.46</td>" in page
    table = render(ROWS, COLUMNS, "rich")
    assert table.row_count == 3 and [x.justify for x in table.columns] == ["left", "right"]
    assert render([("1", 2)], ["a", "b"]) == "| a | b |\n|---|---:|\n| 1 | 2 |"
