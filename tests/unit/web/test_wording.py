"""Errors as a page tells them: in the reader's language, with ways out that a browser can take."""

from tesra.drive.model import ProjectUnknown
from tesra.identity.model import NameTaken, TokenUnknown, WrongCredentials
from tesra.kit.errors import Invalid, PaymentDue
from tesra.web.ui.language import language
from tesra.web.ui.wording import WayOut, error_words, way_out

ENGLISH, CHINESE = language("en"), language("zh-CN")


def test_a_case_that_is_always_the_same_is_told_in_the_readers_language_alone() -> None:
    assert (
        error_words(CHINESE, TokenUnknown("This is not a Tesra token.")) == "这不是 Tesra 的令牌。"
    )
    assert error_words(CHINESE, WrongCredentials()) == "用户名或密码错误。"


def test_what_a_case_says_more_than_its_kind_is_kept_behind() -> None:
    said = error_words(CHINESE, Invalid("Line 3 has 4 fields."))
    assert said == "请求无效。 (Line 3 has 4 fields.)"
    assert error_words(ENGLISH, Invalid("Line 3 has 4 fields.")) == "Line 3 has 4 fields."


def test_an_unpaid_bill_leads_to_where_it_is_paid() -> None:
    due = PaymentDue("Bill bil_1 …", way_out="Pay it with `tesra pay bil_1`.", bill="bil_1")
    assert way_out(CHINESE, due) == WayOut(href="/bills/bil_1", label="去支付")


def test_a_command_is_no_way_out_of_a_page() -> None:
    for error in (
        ProjectUnknown(way_out="`tesra projects` lists yours; `tesra import` makes one."),
        NameTaken(way_out="Choose another name, or sign in with 'tesra login'."),
    ):
        found = way_out(ENGLISH, error)
        assert found.text is None
        assert found.href


def test_any_other_way_out_is_told_as_it_is() -> None:
    assert way_out(CHINESE, Invalid(way_out="Try again.")) == WayOut(text="请重试。")
