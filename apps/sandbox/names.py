"""Names and words that the generator draws from. All people are invented; domains are reserved for examples."""

from __future__ import annotations

_FIRST = """
Ada Amara Anders Anika Arun Astrid Beatriz Bruno Camille Chidi Clara Dalia Dario Devi Elif Emeka
Elena Farid Fatima Felix Freya Gabriel Greta Hana Hugo Ines Ivan Jamal Joana Jonas Kaito Karin Kofi
Lars Leila Linh Lucia Luca Maia Marek Mei Milan Mina Nadia Nils Noor Olga Omar Paula Pavel Priya
Quentin Rafael Rania Rosa Sami Sanne Selma Stefan Tariq Tessa Tomas Uma Vera Viktor Wanda Xenia Yara
Yusuf Zoe
"""
_FIRST = """
Ada Amara Anders Anika Arun Astrid Beatriz Bruno Camille Chidi Clara Dalia Dario Devi Elif Emeka
Elena Farid Fatima Felix Freya Gabriel Greta Hana Hugo Ines Ivan Jamal Joana Jonas Kaito Karin Kofi
Lars Leila Linh Lucia Luca Maia Marek Mei Milan Mina Nadia Nils Noor Olga Omar Paula Pavel Priya
Quentin Rafael Rania Rosa Sami Sanne Selma Stefan Tariq Tessa Tomas Uma Vera Viktor Wanda Xenia Yara
Yusuf Zoe
"""
FIRST = _FIRST.split()
_LAST = """
Abara Adler Almeida Andersson Banerjee Baptiste Becker Bianchi Borg Castell Chen Costa Dahl Demir
Diallo Dvorak Eriksen Esposito Farkas Ferrari Fischer Fontaine Garcia Gruber Haddad Hansen Hoang
Horvat Ito Ivanova Jansen Jensen Kamau Kaplan Karlsson Keller Khan Kowalski Larsen Lefevre Lindqvist
Lopez Marin Mbeki Meyer Moreau Morita Nagy Nakamura Ndiaye Nguyen Novak Okafor Olsen Ortega Osei
Papadakis Park Pereira Petrov Quist Rahman Ricci Rossi Sato Schmid Silva Sokolov Svensson Tanaka
Torres Ueda Varga Vasquez Vogel Wagner Weiss Yamada Yilmaz Zeller
"""
_LAST = """
Abara Adler Almeida Andersson Banerjee Baptiste Becker Bianchi Borg Castell Chen Costa Dahl Demir
Diallo Dvorak Eriksen Esposito Farkas Ferrari Fischer Fontaine Garcia Gruber Haddad Hansen Hoang
Horvat Ito Ivanova Jansen Jensen Kamau Kaplan Karlsson Keller Khan Kowalski Larsen Lefevre Lindqvist
Lopez Marin Mbeki Meyer Moreau Morita Nagy Nakamura Ndiaye Nguyen Novak Okafor Olsen Ortega Osei
Papadakis Park Pereira Petrov Quist Rahman Ricci Rossi Sato Schmid Silva Sokolov Svensson Tanaka
Torres Ueda Varga Vasquez Vogel Wagner Weiss Yamada Yilmaz Zeller
"""
LAST = _LAST.split()

# (name, what it is there to try). Each must come through lists, screens, CSV and mails unharmed.
ODD_NAMES = (
    "Zoë Ångström-Núñez",
    "佐藤 花子",
    "김민준",
    "李小龙",
    "Дмитрий Щербаков",
    "Ελένη Παπαδοπούλου",
    "नेहा शर्मा",
    "สมชาย ใจดี",
    "محمد الأحمد",
    "שירה כהן",
    "\u202eRight-to-left override",
    "👩‍🚀 Sally 🚀",
    "<b>Bold</b> <script>alert(1)</script>",
    "Bobby'); DROP TABLE users;--",
    "=1+1",
    "+cmd|' /C calc'!A0",
    "@SUM(A1:A9)",
    "-2+3",
    "\tTab leading",
    'Quote " and, comma; semicolon',
    "Z\u0351\u0321a\u0307\u0320l\u0353\u030bg\u0322\u0308o\u0360",
    "e\u0301 decomposed and é composed",
    "O'Brien & Sons",
    "{{ template }} {% raw %}",
    "A" * 250,
    "  surrounding   spaces  ",
    "null",
    "Ⅷ ﬁ ﬂ ligature",
)

DEPARTMENTS = ("Engineering", "Finance", "People", "Legal", "Marketing", "Sales", "Support", "Operations", "Research")
TITLES = ("Engineer", "Analyst", "Manager", "Specialist", "Director", "Designer", "Consultant", "Assistant", "Lead")
PLACES = (
    ("Berlin", "Europe/Berlin"),
    ("Lisbon", "Europe/Lisbon"),
    ("Osaka", "Asia/Tokyo"),
    ("Austin", "America/Chicago"),
    ("Nairobi", "Africa/Nairobi"),
    ("Auckland", "Pacific/Auckland"),
    ("Pune", "Asia/Kolkata"),
    ("Montréal", "America/Toronto"),
)
_TEAM_WORDS = """
actuators alloys batteries bearings chassis cobots controls drivetrain embedded firmware gears
grippers harness hydraulics inverters joints kinematics lidar mapping motion navigation optics
perception planning pneumatics power quality radar safety sensors servo simulation telemetry tooling
torque vision welding
"""
_TEAM_WORDS = """
actuators alloys batteries bearings chassis cobots controls drivetrain embedded firmware gears
grippers harness hydraulics inverters joints kinematics lidar mapping motion navigation optics
perception planning pneumatics power quality radar safety sensors servo simulation telemetry tooling
torque vision welding
"""
TEAM_WORDS = _TEAM_WORDS.split()
SERVICES = (
    ("Jenkins Deploy", "svc-jenkins"),
    ("GitHub Sync Bot", "bot-github-sync"),
    ("Nightly Backup", "svc-backup"),
    ("Slack Bridge", "bot-slack-bridge"),
    ("Terraform Automation", "svc-terraform"),
    ("ServiceNow Integration", "svc-servicenow"),
    ("Monitoring Robot", "bot-monitoring"),
    ("Data Export", "svc-export"),
)
APPS = ("Automation for Jira", "Slack", "Draw.io Diagrams", "Trello", "Opsgenie Incident Timeline", "Tempo Timesheets")
