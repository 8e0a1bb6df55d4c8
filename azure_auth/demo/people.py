"""The people of the demo directory."""

from dataclasses import dataclass

OTHER_TENANT = "0ddba11e-0000-4000-8000-00000000beef"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can be clicked on.

    Attributes:
        oid: The object id in the person's home tenant.
        username: What Entra calls `preferred_username`.
        about: What the sign-in page says of them.
        name: The display name; Entra leaves the claim out when there is none.
        roles: App roles assigned to the person.
        home: The GUID of the person's tenant; None is the directory's own.
        guest_of: The GUID of the tenant that a guest comes from.
        groups: How many groups the person is in.
    """

    oid: str
    username: str
    about: str
    name: str | None = None
    roles: tuple[str, ...] = ()
    home: str | None = None
    guest_of: str | None = None
    groups: int = 0


PEOPLE = (
    Person("ada00000-0000-4000-8000-000000000001", "ada@contoso.example", "admin", "Ada Lovelace", ("Admin",)),
    Person("9ace0000-0000-4000-8000-000000000002", "grace@contoso.example", "employee", "Grace Hopper"),
    Person("de5c0000-0000-4000-8000-000000000003", "frontdesk@contoso.example", "an account without a name"),
    Person(
        "c0de0000-0000-4000-8000-000000000004",
        "charles@fabrikam.example",
        "of another organisation",
        "Charles Babbage",
        home=OTHER_TENANT,
    ),
    Person(
        "905e0000-0000-4000-8000-000000000005",
        "mary_fabrikam.example#EXT#@contoso.example",
        "a guest",
        "Mary Somerville",
        guest_of=OTHER_TENANT,
    ),
    Person("9809b500-0000-4000-8000-000000000006", "joan@contoso.example", "in 300 groups", "Joan Clarke", groups=300),
)
