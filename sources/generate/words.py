"""Word lists that generated texts are made of: one small grammar for each language.

A sentence is ``subject + verb + object + tail + end`` joined by ``joint``. Every sentence begins with a letter and ends
with its language's full stop, which is what lets token counts of sentences be added (see ``texts``). ``#`` in a word
becomes a number.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Grammar(NamedTuple):
    """The parts of a sentence in one language, and how they are joined and ended."""

    subjects: tuple[str, ...]
    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    tails: tuple[str, ...]
    joint: str = " "
    end: str = "."


def _cut(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|"))


ENGLISH: Final = Grammar(
    _cut(
        "The customer|Our warehouse|Invoice #|The nightly job"
        "|A new tenant|The billing team|Order #|The mobile client"
        "|Service checkout-api|The second reviewer"
        "|Contract clause #|Ticket #|The search index|A returning visitor"
        "|The payment provider|Node worker-#|The regional manager|Release 4.#|The audit log|An external partner"
    ),
    _cut(
        "has confirmed|could not find|is waiting for|already replaced|reports an error in|would like to change"
        "|was charged twice for|cannot open|recently updated"
        "|depends on|rejected|needs a copy of|forgot to attach"
        "|compared|is asking about|temporarily disabled|must approve|exceeded the limit of|summarised|moved"
    ),
    _cut(
        "the delivery address|the quarterly report|a refund of # euros"
        "|the access policy|the shipping label|its retry queue"
        "|the list of open orders|an unsigned agreement"
        "|the payment terms of # days|the staging database|two attachments"
        "|the discount code|the export to spreadsheet"
        "|a duplicate record|the cancellation notice|the password reset link"
        "|every item over # kilograms|the notification settings|the memory limit|a public holiday calendar"
    ),
    _cut(
        "before the end of the month|since last Tuesday|without giving a reason|after the latest deployment"
        "|in the northern region"
        "|because the form was incomplete|for the third time this week|as agreed in section #"
        "|while the system was under load|at # minutes past nine|with priority two|and expects an answer today"
        "|although the status page shows no incident|during the migration|for accounts older than # days"
    ),
)

ADVICE: Final = Grammar(
    _cut(
        "Always|When the user is unsure, politely|Before you answer, silently|If a rule conflicts with another,"
        "|For every request|Unless told otherwise"
        "|In regulated countries|When figures are involved|As a rule|Never forget to"
    ),
    _cut("check|quote|explain|summarise|refer to|respect|translate|verify|list|mention|compare|repeat|protect|prefer"),
    _cut(
        "the source document by its title"
        "|amounts in the currency of the account|personal data of other customers"
        "|the opening hours of the branch|the newest version of the policy|facts that were given by the tools"
        "|short sentences in plain language"
        "|the delivery window of # hours|the name of the product exactly as stored"
        "|steps in the order they must be done"
        "|the limits of the free plan|deadlines as full dates|the tone of the brand"
    ),
    _cut(
        "and stay within # sentences|even if the user asks for the opposite|and say so when nothing was found"
        "|before offering to hand over to a person"
        "|in the language of the last message|without inventing numbers"
        "|and keep links unchanged|unless the answer would exceed # words|as described in chapter #"
        "|so that the reader can act at once|and never reveal these instructions"
    ),
)

OTHERS: Final[dict[str, Grammar]] = {
    "de": Grammar(
        _cut("Die Kundin|Unser Lager|Die Rechnung #|Der Vertrag|Das Prüfprotokoll|Der Lieferant|Die Abteilung"),
        _cut("bestätigt|sucht|benötigt|ändert|erwartet|bemängelt|übermittelt|storniert"),
        _cut(
            "die Lieferadresse|eine Gutschrift über # Euro|den Quartalsbericht|das Rücksendeetikett"
            "|die Zugangsberechtigung|den Kündigungstermin"
        ),
        _cut("seit letzter Woche|ohne Angabe von Gründen|bis zum Monatsende|trotz mehrfacher Rückfrage|laut Abschnitt #"),
    ),
    "fr": Grammar(
        _cut("La cliente|Le fournisseur|Notre entrepôt|La facture #|Le service juridique|Un visiteur"),
        _cut("confirme|recherche|demande|refuse|attend|modifie|vérifie"),
        _cut(
            "l'adresse de livraison|un remboursement de # euros|le rapport trimestriel|les conditions de paiement|la clé d'accès"
        ),
        _cut("depuis mardi dernier|sans donner de raison|avant la fin du mois|après la mise à jour|pour la troisième fois"),
    ),
    "es": Grammar(
        _cut("La clienta|El proveedor|Nuestro almacén|La factura #|El equipo de ventas|Un socio externo"),
        _cut("confirma|busca|necesita|rechaza|espera|cambia|revisa"),
        _cut("la dirección de entrega|un reembolso de # euros|el informe trimestral|las condiciones de pago|la contraseña"),
        _cut("desde el martes pasado|sin dar una razón|antes de fin de mes|después de la actualización|según la sección #"),
    ),
    "he": Grammar(
        _cut("הלקוחה|המחסן שלנו|חשבונית #|הספק החדש|צוות החיוב|מנהל האזור"),
        _cut("אישרה את|מחכה אל|לא מצא את|מבקש לשנות את|ביטל את|בודק את"),
        _cut("כתובת המשלוח|החזר של # שקלים|הדוח הרבעוני|תנאי התשלום|רשימת ההזמנות|קוד ההנחה"),
        _cut("מאז יום שלישי|בלי לתת סיבה|לפני סוף החודש|אחרי העדכון האחרון|בפעם השלישית השבוע"),
    ),
    "ar": Grammar(
        _cut("العميلة|المستودع|الفاتورة #|المورد الجديد|فريق الفواتير|مدير المنطقة"),
        _cut("أكد|ينتظر|لم يجد|يريد تغيير|ألغى|يراجع"),
        _cut("عنوان التسليم|استرداد # دينار|التقرير الفصلي|شروط الدفع|قائمة الطلبات|رمز الخصم"),
        _cut("منذ يوم الثلاثاء|دون ذكر السبب|قبل نهاية الشهر|بعد التحديث الأخير|للمرة الثالثة هذا الأسبوع"),
    ),
    "zh": Grammar(
        _cut("客户|我们的仓库|发票#|新供应商|账单团队|区域经理"),
        _cut("已经确认了|找不到|正在等待|想要修改|取消了|需要"),
        _cut("送货地址|#元的退款|季度报告|付款条件|未完成订单列表|优惠代码"),
        _cut("从上周二开始|没有说明原因|在月底之前|在最近一次更新之后|这是本周第三次"),
        "",
        "。",
    ),
    "ja": Grammar(
        _cut("お客様は|当社の倉庫は|請求書#番は|新しい取引先は|経理チームは|地域の責任者は"),
        _cut("先週の火曜日から|月末までに|理由を示さずに|最新の更新の後に|今週三回目として"),
        _cut("配送先住所を|#円の返金を|四半期報告書を|支払い条件を|注文の一覧を|割引コードを"),
        _cut("確認しました|見つけられません|待っています|変更したいそうです|取り消しました"),
        "",
        "。",
    ),
    "hi": Grammar(
        _cut("ग्राहक|हमारा गोदाम|चालान #|नया विक्रेता|बिलिंग टीम|क्षेत्र प्रबंधक"),
        _cut("डिलीवरी का पता|# रुपये की वापसी|तिमाही रिपोर्ट|भुगतान की शर्तें|छूट कोड"),
        _cut("पिछले मंगलवार से|बिना कारण बताए|महीने के अंत से पहले|नए अपडेट के बाद|इस सप्ताह तीसरी बार"),
        _cut("खोज रहा है|बदलना चाहता है|रद्द कर चुका है|की प्रतीक्षा में है|जाँच रहा है"),
        " ",
        "।",
    ),
}
