"""The words of notices, in both languages, and what a webhook gets. Pure."""

import json
from collections.abc import Callable

from tesra.notices.model import CODE_MINUTES, Event, Happening

Tell = Callable[[str, str], str]  # what the platform says of a cause, in a language of channels
_TYPES = {  # as a webhook names them
    Event.ENDED: "run.ended",
    Event.FAILED: "run.failed",
    Event.CAP: "run.stopped",
    Event.NEAR_CAP: "run.near_cap",
    Event.AGAIN: "run.queued_again",
    Event.BILL: "bill.made",
    Event.SWEEP: "sweep.ended",
    Event.ALARM: "alarm.raised",
    Event.TEST: "test",
}


def subject(said: Happening, language: str) -> str:
    """One line, whatever is in the names."""
    words = _SUBJECTS[language][said.event].format(what=_what(said, language))
    return " ".join(f"Tesra: {words}".split())[:200]


def text(said: Happening, language: str, tell: Tell) -> str:
    """The whole notice: what happened, why, what it costs, what to do next."""
    first = _SUBJECTS[language][said.event].format(what=_what(said, language))
    lines = [first[:1].upper() + first[1:] + _STOP[language]]
    phrases = _PHRASES[language]
    if said.reason:
        lines.append(phrases["why"].format(why=tell(language, said.reason)))
    if said.bill:
        lines.append(phrases["bill"].format(bill=said.bill, amount=said.amount_cny))
        lines.append(phrases["due"])
    elif said.amount_cny is not None:
        lines.append(phrases["cost"].format(amount=said.amount_cny))
    lines += [f"    {command}" for command in _commands(said)]
    return "\n".join([*lines, "", phrases["why_me"], ""])


def code_words(code: str, language: str) -> tuple[str, str]:
    """Subject and text of the mail that confirms an address."""
    mail = _CODE[language]
    return mail[0].format(code=code), mail[1].format(code=code, minutes=CODE_MINUTES)


def body(said: Happening, language: str, tell: Tell) -> bytes:
    """The JSON that a webhook gets; ``text`` is for people."""
    data = {name: value for name, value in said.plain().items() if name not in ("event", "at")}
    told = {"subject": subject(said, language), "text": text(said, language, tell)}
    message = {"type": _TYPES[said.event], "timestamp": said.at, "data": data | told}
    return json.dumps(message, ensure_ascii=False).encode()


def _what(said: Happening, language: str) -> str:
    if said.event is Event.BILL:
        return f"{said.bill or ''}"
    noun = _PHRASES[language]["sweep" if said.sweep and not said.run else "run"]
    name = said.run or said.sweep or ""
    return f"{noun}{name} ({said.project})" if said.project else f"{noun}{name}"


def _commands(said: Happening) -> list[str]:
    if said.event is Event.ALARM:
        return ["tesra alarms"]
    if said.event is Event.SWEEP:
        commands = [f"tesra sweep show {said.sweep}"]
    else:
        commands = [f"tesra show {said.run}"] if said.run else []
    if said.event is Event.ENDED:
        commands.append(f"tesra download {said.run} model")
    if said.event is Event.FAILED:
        commands.append(f"tesra logs {said.run}")
    return [*commands, f"tesra pay {said.bill}"] if said.bill else commands


_STOP = {"en": ".", "zh": "。"}
_SUBJECTS = {
    "en": {
        Event.ENDED: "{what} has ended well",
        Event.FAILED: "{what} has failed",
        Event.CAP: "{what} was stopped at its cap",
        Event.NEAR_CAP: "{what} comes near its cap",
        Event.AGAIN: "{what} lost its node and is queued again",
        Event.BILL: "bill {what} is made",
        Event.SWEEP: "{what} has ended",
        Event.ALARM: "an alarm of storage",
        Event.TEST: "notices reach you here",
    },
    "zh": {
        Event.ENDED: "{what} 已顺利完成",
        Event.FAILED: "{what} 失败了",
        Event.CAP: "{what} 已达上限，被停止",
        Event.NEAR_CAP: "{what} 接近上限",
        Event.AGAIN: "{what} 失去了节点，已重新排队",
        Event.BILL: "账单 {what} 已生成",
        Event.SWEEP: "{what} 已结束",
        Event.ALARM: "存储警报",
        Event.TEST: "您可以在这里收到通知",
    },
}
_PHRASES = {
    "en": {
        "run": "run ",
        "sweep": "sweep ",
        "why": "{why}",
        "bill": "Bill {bill}: CNY {amount}, unpaid.",
        "due": "Until it is paid, no further run starts.",
        "cost": "Cost: CNY {amount}.",
        "why_me": "You asked for this with `tesra notify`; `tesra notify remove` ends it.",
    },
    "zh": {
        "run": "训练 ",
        "sweep": "超参搜索 ",
        "why": "原因：{why}",
        "bill": "账单 {bill}：{amount} 元，未支付。",
        "due": "支付之前，新的训练不会开始。",
        "cost": "费用：{amount} 元。",
        "why_me": "您用 `tesra notify` 订阅了这些通知；`tesra notify remove` 可以取消。",
    },
}
_CODE = {
    "en": (
        "Tesra: your code is {code}",
        "Your code is {code}. It is good for {minutes} minutes:\n\n"
        "    tesra notify confirm {code}\n\n"
        "If you did not ask for it, do nothing: you will hear no more of this.\n",
    ),
    "zh": (
        "Tesra：您的验证码是 {code}",
        "您的验证码是 {code}，{minutes} 分钟内有效：\n\n"
        "    tesra notify confirm {code}\n\n"
        "如果您没有请求它，请忽略这封邮件。\n",
    ),
}
