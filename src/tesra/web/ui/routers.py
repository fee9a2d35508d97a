"""All pages, in the order in which they are searched."""

from collections.abc import Sequence

from fastapi import APIRouter

from tesra.web.ui import static_files
from tesra.web.ui.pages import (
    access,
    account,
    bills,
    channels,
    choices,
    compare,
    drive,
    drive_care,
    drive_changes,
    drive_past,
    drive_shares,
    home,
    notices,
    operator,
    operator_money,
    operator_users,
    provider,
    run,
    second_factor,
    shared,
    sign_in,
    sweeps,
    training,
    training_new,
    training_projects,
)

PAGES: Sequence[APIRouter] = (
    static_files.router,
    home.router,
    choices.router,
    sign_in.router,
    training.router,
    run.router,
    compare.router,
    sweeps.router,
    bills.router,
    operator.router,
    operator_money.router,
    operator_users.router,
    provider.router,
    account.router,
    second_factor.router,
    access.router,
    channels.router,
    training_new.router,
    training_projects.router,
    notices.router,
    drive.router,
    drive_changes.router,
    drive_past.router,
    drive_shares.router,
    drive_care.router,
    shared.router,
)
