"""Reasons on Chinese pages: every template that the code makes them from is said in Chinese."""

import ast
import sys
import time
from pathlib import Path

import pytest

from tesra.web.ui.language import language, translations
from tesra.web.ui.reasons import _FIELD, PARTS, tell

TOOLS = Path(__file__).resolve().parents[3] / "tools"
sys.path.insert(0, str(TOOLS))

from said_words import Unreadable, constants_of, marked, of_errors  # noqa: E402 - of the folder named above

CHINESE = language("zh-CN")
MARK = "from tesra.kit.saying import Said, said\n"


def _templates_of(source: str) -> list[str]:
    return list(marked(ast.parse(MARK + source), "here"))


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("The node was lost.", "节点已掉线。"),
        (
            "Queued again from checkpoint 3: Node a was lost: its processes have ended.",
            "已从断点 3 重新排队：失去了节点 a：它的进程已经结束。",
        ),
        (
            "Its turn comes later: 1 of 2 devices free; 2 of your own first.",
            "还没有轮到它：2 台设备中 1 台空闲；先轮到您自己的 2 个。",
        ),
        (
            "Needs 4 devices of class rtx at once on one node, and there are only 2 now, busy or"
            " not: it starts when more are back.",
            "需要同时 4 台 rtx 类设备（在同一节点上），而现在只有 2 台（不论忙闲）：等更多设备回来后开始。",
        ),
        (
            "train.py:12 forms a torch process group: init_process_group()",
            "train.py:12 建立了 torch 进程组：init_process_group()",
        ),
        (
            "Rank 1 on node n, rank 2 on node m have made no progress for 22 s; the others wait"
            " for them.",
            "节点 n 上的进程 1、节点 m 上的进程 2 没有进展（已有 22 秒）；其他进程在等它们。",
        ),
        (
            "Change 3, lr=0.003, momentum=0.9: made at step 5 on 2 ranks; rank 1 was late and made"
            " it at step 6.",
            "更改 3（lr=0.003, momentum=0.9）：在第 5 步于2 个进程上生效；进程 1 晚了，在第 6 步生效。",
        ),
        (
            "The copy of pack ab12 on peer-2 has been changed: block 3 of pack ab12 is not what"
            " was stored",
            "数据包 ab12 在 peer-2 上的副本被改动了：数据包 ab12 的第 3 块与存入的不一致",
        ),
    ],
)
def test_what_is_said_with_figures_is_said_in_chinese(english: str, chinese: str) -> None:
    assert tell(CHINESE, english) == chinese
    assert tell(language("en"), english) == english


def test_nothing_may_stand_in_quotes_alone() -> None:
    assert tell(CHINESE, "There is no device class ''.") == "没有“”这一设备类别。"
    assert tell(CHINESE, "Bill  of CNY 1.00 has to be paid first.").startswith("Bill")


def test_a_log_stays_as_it_is_behind_the_reason() -> None:
    log = "Traceback (most recent call last):\nimports torch\nstarting"
    words = "Rank 1 ended with exit code 3 on node box/2. Rank 0 had ended with exit code 0"
    told = tell(CHINESE, f"{words} while the others went on.\n{log}")
    assert told.startswith("节点 box/2 上的进程 1 以退出码 3 结束。其他进程还在继续时，进程 0")
    assert told.endswith(f"\n{log}")


def test_a_hint_behind_a_log_is_said_in_chinese() -> None:
    words = "Rank 0 ended with exit code 1 on node a.\nOSError\nHint: is it in the project?"
    told = tell(CHINESE, f"{words} .gitignore leaves files out.")
    assert told == (
        "节点 a 上的进程 0 以退出码 1 结束。\nOSError\n提示：它在项目里吗？.gitignore 会排除一些文件。"
    )


@pytest.mark.parametrize("own", ["my own words: all of them", "", "<b>starting</b>", "{words}"])
def test_what_nobody_made_here_stays(own: str) -> None:
    assert tell(CHINESE, own) == own


@pytest.mark.parametrize("part", PARTS)
def test_every_template_is_known_again_whatever_is_in_it(part: str) -> None:
    for text, said in translations(CHINESE.locale, part):
        values = {
            name: {"place": "a.py:1", "node": "n1"}.get(
                name, "7" if name.endswith(":d") else f"v{n}"
            )
            for n, name in enumerate(_FIELD.findall(text))
        }
        assert tell(CHINESE, _filled(text, values)) == _filled(said, values), text


@pytest.mark.parametrize("part", PARTS)
def test_translations_have_the_fields_of_their_templates(part: str) -> None:
    for text, said in translations(CHINESE.locale, part):
        assert set(_FIELD.findall(text)) == set(_FIELD.findall(said)), text


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece", ["a, ", "; ", ". ", "Queued again: ", "rank 1 on node ", "() writes "]
)
def test_hostile_text_is_read_to_its_end(piece: str) -> None:
    assert tell(CHINESE, piece * (8000 // len(piece)))


def test_a_new_reason_is_read_out_of_the_source() -> None:
    assert _templates_of('said(f"Lost {len(rows)} of {self.total:d} in {row.name}.")') == [
        "Lost {rows} of {total:d} in {name}."
    ]
    assert _templates_of('said("one" if x else f"{x} ones")') == ["one", "{x} ones"]
    assert _templates_of("saying(x)") == []


@pytest.mark.parametrize(
    "source",
    [
        "said(words)",
        'said("a" + words)',
        'said(f"{a}{b}")',
        'Said("words that stand there")',
        'Said(f"words of {a}")',
    ],
)
def test_words_that_cannot_be_read_are_refused(source: str) -> None:
    with pytest.raises(Unreadable):
        _templates_of(source)


def _of_errors(source: str) -> list[str]:
    tree = ast.parse(source)
    return [words for words, _ in of_errors(tree, {"Refused"}, "here", constants_of(tree))]


def test_what_an_error_says_is_read_out_of_the_source() -> None:
    assert _of_errors('raise Refused(f"{len(rows)} are too many.", way_out="Take fewer.")') == [
        "{rows} are too many.",
        "Take fewer.",
    ]
    assert _of_errors('AGAIN = "Try again."\nraise Refused(way_out=AGAIN if x else None)') == [
        "Try again."
    ]
    assert _of_errors("raise Refused(other.detail, way_out=said(words))") == []


@pytest.mark.parametrize("words", ["words", '"a" + words', 'f"{a}{b}"', 'f"{a}: {b}"[:300]'])
def test_words_of_an_error_that_cannot_be_read_are_refused(words: str) -> None:
    with pytest.raises(Unreadable):
        _of_errors(f"raise Refused({words})")


def test_a_page_with_many_reasons_is_told_quickly() -> None:
    """Each of them new: what was told before is remembered."""
    began = time.process_time()
    for number in range(50):
        said = f"Bill bil_{number} of CNY {number}.50 has to be paid first."
        assert tell(CHINESE, said) == f"请先支付账单 bil_{number}（{number}.50 元）。"
    assert time.process_time() - began < 1


def _filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text
