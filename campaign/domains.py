"""E-mail domains of which no organisation can claim one."""

# Those that people use most; none of them can be proven to be one's own by a DNS record, as Docusign wants it.
_NAMES = """
gmail.com googlemail.com outlook.com hotmail.com live.com msn.com hotmail.co.uk hotmail.fr outlook.de live.co.uk
yahoo.com yahoo.co.uk yahoo.fr yahoo.de yahoo.co.jp ymail.com aol.com icloud.com me.com mac.com
gmx.de gmx.net gmx.at gmx.ch gmx.com web.de t-online.de freenet.de proton.me protonmail.com mail.com zoho.com
fastmail.com orange.fr wanadoo.fr free.fr laposte.net libero.it uol.com.br bol.com.br terra.com.br
mail.ru yandex.ru qq.com 163.com 126.com naver.com docomo.ne.jp comcast.net btinternet.com
"""
PUBLIC = frozenset(_NAMES.split())
