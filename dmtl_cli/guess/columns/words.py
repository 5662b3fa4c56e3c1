"""What columns tend to be called, in English and Chinese, and (`languages`) what outcomes are called in others: the
names by which a role is guessed."""

from __future__ import annotations

import re

from dmtl_cli.guess.columns import languages

Patterns = tuple[tuple[str, int], ...]
"""regular expressions over `words`, each with how surely a name that fits is of the role"""


def any_of(words: str) -> str:
    """One of some words, given between spaces; `_` stands for a space within one."""
    return "(" + "|".join(word.replace("_", " ") for word in words.split()) + ")"


def _ids(words: str) -> str:
    """What the ids of one of some things are called, whose names are given between spaces."""
    ends = any_of("id ids key no nr code cd num number nummer hash sk uuid idx index numero número kod 编号 标识 号")
    return f"^{any_of(words)}( ?{ends})?$"


_SPAN = any_of("time duration second seconds sec secs ms msec msecs millis milliseconds minutes length")
_UNIT = r"( ?" + any_of("ms s sec second seconds millis") + ")?$"
_FLAG = r"^" + any_of("is has was if flag") + "? ?"
_READING = any_of(
    "play watch dwell read stay listen view visit viewing consume engage engagement attention playing reading watching"
    " heard listened played watched"
)
_ACTS = any_of(
    "click clk like hate dislike follow comment forward share favorite favourite fav collect cart buy bought purchase"
    " order pay paid convert conversion download install subscribe profile_enter upvote vote rating rated stars finish"
    " complete completion skip watch view viewed play played read dwell stay long_view effective_view engage feedback"
    " response liked shared hide hidden report reported muted dismiss dismissed"
    " 点赞 收藏 购买 评论 转发 评分 加购 下单 完播"
)
_MEASURES = any_of("flag label count yn s type ratio rate time ms msec sec secs seconds duration length pct percent")

USER: Patterns = (
    (_ids("user uid usr member customer cust visitor viewer reader buyer reviewer 用户 会员 读者 买家"), 3),
    (
        _ids(
            "client account guest listener person profile profil perfil profilo"
            " human player gamer subscriber learner student pupil patient"
            " passenger jogador jugador spieler joueur giocatore suscriptor abonnent abonné"
            " schüler élève leser lecteur lettore lector usuario usuário utente utilisateur nutzer benutzer"
            " kunde kunden kund klant klanten klient asiakas zakaznik zákazník cliente gebruiker bruger bruker"
            " användare anvandare kullanıcı kullanici müşteri пользователь клиент користувач клієнт kaiin yuza riyousha"
            " visitante visiteur visitatore besucher"
            " 顾客 账号 访客 yonghu huiyuan pengguna pelanggan użytkownik uzytkownik uživatel felhasználó vásárló"
            " utilizator käyttäjä lid lidnr mitglied medlem membre membro miembro socio sócio jäsen člen"
        ),
        2,
    ),
    (r"^user (pseudo|anon|anonymous|hashed|global|internal|external|master) ?(id|uid|key)$", 2),
    (r"^(pseudo|anon|domain|network|distinct|external) ?user ?id$|^distinct ?id$", 2),
    (_ids("device cookie session konto cuenta conta compte 设备"), 1),
)
ITEM: Patterns = (
    (_ids("item itm iid movie video photo article product prod goods sku asin song track book news"), 3),
    (_ids("商品 物品 视频 电影 文章 图书 内容 歌曲 新闻 作品 笔记"), 3),
    (
        _ids(
            "film music post doc document content note game app restaurant poi recipe job offer listing feed clip"
            " episode course podcast title media pin tweet story hotel property artikel angebot angebots vare varer"
            " wenzhang shipin shangpin barang produk berita oferta produkt artykuł artykul artículo articulo produto"
            " producto notícia noticia kiji shohin shouhin sakuhin"
            " ürün товар cikk termék comic manga webtoon ebook audiobook isbn ean gtin upc album recept recette receta"
            " ricetta lesson chapter articolo notizia annuncio prodotto immobile libro livro imóvel imovel inmueble"
            " anuncio anúncio annonce annonse annons woning nieuws inzerát ogłoszenie ogloszenie hirdetés ilan haber"
            " aviso статья новость урок фильм трек объявление"
        ),
        2,
    ),
    (_ids("business shop store ad creative target object entity campaign artist 店铺 广告"), 1),
)
TITLE = any_of(
    "title titles headline heading subject titel titre titolo titulo título tytuł tytul titlu başlık baslik cím otsikko"
    " tittel overskrift naslov наслов заголовок назва nadpis název pealkiri virsraksts antraštė titlos τίτλος"
    " tieu_de tieude tiêu_đề judul koteret כותרת unwan عنوان shirshak शीर्षक শিরোনাম biaoti 标题 タイトル 제목"
)
"""what a thing is called in a sentence, which commas do not make a list"""
OWNER: Patterns = (
    (any_of("author owner creator uploader seller publisher merchant vendor poster sender artist 作者 卖家") + "$", 2),
)
"""whose an item is"""
_HAPPENED = any_of(
    "event log request click impression server client view exposure show action watch play shown served"
    " displayed seen exposed occurred"
)
_CLOCK = any_of("timestamp time ts tstamp datetime date_time at time_ms time_millis unixtime epoch")
_OF_EVENT = any_of("event evento événement evenement impression exposure shown served exhibicion impresion impressao")
TIME: Patterns = (
    (
        rf"^({_HAPPENED}? ?{_CLOCK}|{any_of('ts timestamp time datetime')} {_OF_EVENT}|unix time|unix timestamp"
        r"|时间|时间戳|.*(曝光|点击|行为)时间)( ?(ms|millis|s|sec|utc|local))?$",
        3,
    ),
    (r"^((event|log)? ?date|day|dt|created( at)?|viewed at|clicked at|timestamp.*|review date|日期)$", 2),
)
CLICK: Patterns = (
    (_FLAG + r"(click|clicked|clk|tapped|opened)( ?(flag|label|yn))?$|^(是否)?点击$|.* (clicked|is click)$", 3),
    (r"^[a-z]+ " + any_of("opened tapped started selected") + "$", 2),
    (rf"(^| ){languages.CLICK}( ?(flag|label|yn))?$|{languages.CLICK_WITHIN}(flag|여부|フラグ|済み?)?$", 2),
    (r"^(label|target|y|response|interaction|标签)$", 1),
)
_BEGUN = any_of("play played open opened view viewed start started select selected tap tapped watched visited")
STARTED: Patterns = (
    (rf"(^| ){_BEGUN}$", 1),
    (rf"(^| ){languages.STARTED}$", 1),
)
"""an item was begun: a click, where the label says so too"""
OPENED: Patterns = ((rf"(^| ){languages.OPENED}$", 1),)
"""what was opened, or is open, in other languages"""
CLICKED: Patterns = (
    (r"(^| )(is |ge|на)?(cli[ckq]|kli[ckq]|tıkla|tikla|клик|жат|ctr( |$))", 2),
    *STARTED,
)
"""what clicks are called in other languages, where a name has to choose between flags that fit as well"""
WHEN = any_of("time ts at on date day timestamp datetime epoch utc created updated published modified 时间 日期")
"""a time"""
WRITTEN = any_of(
    "etl load loaded insert inserted ingest ingested ingestion received receive recv rcvd processed sent sync synced"
    " upload uploaded stored written updated modified dw dwh export exported"
    " carga cargado recibido insertado procesado carregado recebido inserido processado chargé charge reçu recu geladen"
    " empfangen eingefügt verarbeitet caricato ricevuto inserito ontvangen verwerkt załadowano zaladowano"
    " odebrano"
)
"""when a row was written, and not when what it says was"""
_WHEN_SAID = any_of(
    "at on time ts timestamp datetime date tid tidspunkt dato datum zeit uhrzeit zeitpunkt um am fecha hora data"
    " horario heure le à quand giorno ora tijd tijdstip czas godzina čas vrijeme vreme időpont ido idő ideje zaman"
    " zamanı saat waktu jam aika время дата час χρόνος ώρα"
)
CLICK_TIME = (
    r"^(first )?"
    + any_of("click clicked clk tap tapped open opened select selected")
    + " ?"
    + any_of("at on time ts timestamp datetime date_time date ms time_ms epoch utc")
    + "( (ms|s|sec|utc))?$|点击时间"
    + rf"|^{languages.CLICK} (om |á )?{_WHEN_SAID}$|^{_WHEN_SAID} (de |del |du |da |do |van )?{languages.CLICK}$"
)
"""the time of a click, null without one"""
_MADE = r"^((most|total) )?((props|properties|params|payload|data|attributes|attrs) )?"
"""a column that is made of rows of other kinds, of a field of their object"""
DURATION: Patterns = (
    (_READING + "(ed|ing)? ?" + _SPAN + _UNIT, 3),
    (_READING + "(ed|ing)? s$", 3),
    (r"(^| )(ms|millis|s|sec|secs|seconds) (played|watched|listened|read)$", 3),
    (r"(播放|停留|阅读|观看|收听)(时长|时间|秒数?|毫秒)", 3),
    (_MADE + any_of("dwell time_spent seconds time_on_page duration_played") + _UNIT, 3),
    (rf"(^| ){languages.READING}( |$)|{languages.READING_WITHIN}", 3),
    (_MADE + r"(duration|dur|dauer|durée|duree|duración|duracion|duração|duracao|durata|时长)" + _UNIT, 1),
)
SPENT = any_of(
    "duration dwell stay watched listened played read runtime length dauer lesedauer duree durée duracion duración"
)
"""a length of time, of texts that look like one"""
_DONE = "(s|d|ed|ing)?( |$)|"
_FURTHER = any_of(
    "cart addtocart subscribe follow download install signup enrol enroll long_view finish complete completion"
)
CONVERSION: Patterns = (
    ("(^| )" + any_of("buy bought purchase order pay paid conversion convert") + _DONE + "购买|下单|支付|成交", 4),
    (
        "(^| )"
        + any_of("like favorite favourite fav collect upvote thumb bookmark wishlist")
        + _DONE
        + "点赞|收藏|喜欢",
        3,
    ),
    ("(^| )" + _FURTHER + _DONE + "加购|关注|完播", 2),
    ("(^| )" + any_of("share forward comment") + _DONE + "转发|评论|分享", 1),
    (rf"(^| ){languages.ORDER}( |$)|{languages.ORDER_WITHIN}", 4),
    (rf"(^| ){languages.LIKE}( |$)|{languages.LIKE_WITHIN}", 3),
    (rf"(^| ){languages.BASKET}( |$)|{languages.BASKET_WITHIN}", 2),
    (rf"(^| ){languages.SHARE}( |$)|{languages.SHARE_WITHIN}", 1),
)
NOT_GOOD = any_of(
    "dislike unlike hate skip report block refund refunded cancel cancelled canceled cancellation cancellations bounce"
    " dismiss uninstall uninstalls uninstalled unfollow unfollows unfollowed unsubscribe unsubscribes unsubscribed"
    " chargeback chargebacks storno stornos stornierung stornierungen annulation annullamento cancelación cancelamento"
    " 不喜欢 autoplay auto_play autoplayed auto_played 自动播放"
    " refunds returns reso resi rimborso rimborsi retours retouren remboursement devolución devoluciones devolução"
)
"""no conversion: the contrary of one, or what nobody chose"""
POSITION: Patterns = ((r"(^| )(position|pos|rank|slot|index)$|位置$", 1),)
PLACES = any_of("position positions pos rank ranks slot slots index indexes indices idx place places 位置")
_SERVED = any_of("request req impression imp slate list page_view pageview pv trace search query serve 曝光 请求")
REQUEST: Patterns = (
    (r"^" + any_of("request req slate") + "$", 3),
    (rf"^{_SERVED} ?{any_of('id key no uuid hash 编号')}$", 3),
    (r"^(session|sess|sid|visit)( ?(id|key|no|num|number|uuid))?$|^会话", 1),
)
RATING: Patterns = ((r"^(rating|score|stars?|star rating|overall|评分|打分)$", 3),)
BEHAVIOUR: Patterns = (
    (
        r"^(behaviou?r|action|event|feedback|interaction|acci[oó]n|evento|a[cç][aã]o|aktion|ereignis|azione|évènement"
        r"|événement|evenement|eylem|olay|действие|событие|行为|动作)( ?(type|name|kind|类型))?$",
        3,
    ),
)
STATE = any_of(
    "status statuses state stan zustand estado estatus statut stato durum durumu stav stare tila tilstand 状态 статус"
    " состояние стан"
)
"""how far an order, or what else came of an exposure, is"""
NUMBER = any_of(
    "count counts cnt num number price amount cost age days day hours minutes seconds ms length len size duration year"
    " words chars characters pages bytes width height lat lon latitude longitude"
    " score rate ratio distance weight position pos rank views likes clicks plays total avg mean sum level 价格"
    " 数量 年龄 数 글자수 단어수 페이지수 쪽수 时长 sec secs second minute minutes hour yen eur usd min mins"
    " alter dauer minuten sekunden stunden tage anzahl menge preis kosten gewicht klicks [^ ]*dauer [^ ]*anzahl"
    " [^ ]*preis edad minutos segundos horas dias días años cantidad precio monto importe peso visitas clics"
    " idade anos preço preco quantidade cliques âge heures jours secondes nombre quantité quantite prix montant durée"
    " duree età minuti secondi giorni quantità prezzo importo durata leeftijd seconden uren dagen aantal prijs"
    " yaş yas dakika saniye adet fiyat fiyatı süre sure sayısı sayisi возраст минут минуты секунды количество цена"
    " nenrei kakaku nagasa kaisu ruikei 年齢 価格 回数 秒数 分数 paginas páginas pagine seiten jaar jahr woorden"
)
"""a number, not a code"""
SKEWED = any_of(
    "price amount cost count counts cnt num number position pos rank views likes clicks plays total sum 价格 数量 数"
    " anzahl klicks preis [^ ]*preis precio monto importe visitas clics preço preco cliques prix montant prezzo prijs"
    " aantal fiyat fiyatı adet цена количество kakaku ruikei 価格 回数"
)
"""a number of which a few are far larger than most"""
TOTAL = any_of(
    "lifetime total totals sum count counts cnt num avg average mean rating ratings score last latest recent spend"
    " spent spending balance points revenue orders purchases views clicks likes plays followers fans popularity ltv"
    " 累计 总 数量 gesamt klicks acumulado toplam ruikei"
)
"""a running total, or another value that later days change"""
WINDOW = (
    r"(7|14|15|21|28|30|60|90|180|365) ?"
    r"(d|g|t|j|days?|tage|tagen|jours|dias|días|giorni|dni|dní|dagar|dager|dagen|dage|gün|nap|日|天)"
)
"""what is counted over some days, as views_30d is"""
PRICE = any_of(
    "price cost amount 价格 preis [^ ]*preis kosten precio monto importe preço preco prix montant prezzo prijs fiyat"
    " fiyatı цена kakaku 価格"
)
HISTORY = any_of("history hist recent last past previous clicked viewed session seq sequence 历史 最近")
CODE = any_of(
    "id ids code codes key no nr sk fk zip plz postcode type kind class category group segment cluster bucket version"
)
"""a code, whatever its values look like"""
STAFF = (
    r"^(is |er |ist |est |es |has |flag )?"
    + any_of(
        "test test_user test_device test_account qa staff employee internal intern_user intern bot robot crawler spider"
        " mitarbeiter medarbejder ansatt employé empleado dipendente pracownik zaměstnanec internal_user is_internal"
    )
    + r"( flag| user| account)?$"
)
"""a mark of who is no user: staff, those who test, programs"""
PIPELINE = any_of(
    "batch etl load loader partition shard chunk file job dag pipeline ingest ingestion import export sync version"
    " schema offset dwh revision lote server szerver hostname pod 批次 分区"
)
"""what wrote a row, and not what it is of"""
_NAMED_SO = "( " + any_of("name nev név nom nombre nome nazwa id nr no") + ")?$"
_OF_APP = (
    "^(" + any_of("app web api log logging serving backend frontend source k8s kube kubernetes application") + " )?"
)
MACHINE = _OF_APP + any_of("server szerver servidor serveur serwer sunucu hostname host_name pod") + _NAMED_SO
"""which machine wrote a row"""
PERHAPS_MACHINE = "(^| )" + any_of("host node worker instance machine backend replica") + _NAMED_SO
"""the same, or a site, somebody who lets a flat, a place in a menu"""
DAY_KEY = r"(^| )" + any_of("date day dt calendar datum fecha tarih 日期") + " ?" + any_of("sk key fk id nr no") + "$"
"""the key of a table of days"""
RATIO = any_of("ratio rate percent pct progress")
_WATCHED = any_of("watch watched play played view viewed read listen listened scroll completion completed finished")
_PART = any_of("ratio rate percent percentage pct progress share fraction depth")
PORTION: Patterns = (
    (rf"(^| ){_WATCHED} {_PART}", 3),
    ("完播率|播放(比例|进度|占比)", 3),
)
"""how much of an item was read, of 1 or of 100"""
_AFTER = (
    rf"^({any_of('is has was if 是否')} ?)?{_ACTS}(ed)?( {_MEASURES})*$"
    rf"|{any_of('watch play view finish completion completed read scroll')}.*"
    rf"{any_of('ratio rate percent pct progress depth time duration seconds')}|完播"
    rf"|(^| ){any_of('engaged engagement')}( {_MEASURES})*$"
    rf"|(^| ){any_of('viewable viewability in_view')}( {_MEASURES})*$"
    rf"|(^| ){any_of('ms seconds sec secs time')} on {any_of('screen page site article item')}$"
    rf"|(^| ){any_of('stay staying dwell dwelling linger')} {any_of('time duration length')}( {_MEASURES})*$"
    rf"|^({any_of('n num number number_of total')} )?{any_of('replay replays rewatch rewatches loop loops')}"
    rf"( (cnt|{_MEASURES}))*$"
    rf"|^({any_of('is was did')} )?{any_of('replayed rewatched exit exited swiped_away swipe_away')}( after)?$"
    r"|^session (end|ended|ends)( here)?$"
)
LABEL = (
    rf"^(is )?{any_of('label target positive negative reward feedback outcome ground_truth y 标签')}( {_MEASURES})*$"
)
"""what models learn, by its name"""
LEARNED = any_of("label target reward ground_truth y 标签")
"""those of its words that say nothing of an item"""
_MEASURED = r"(^| )(ms|msec|msecs|millis|milli|milliseconds?|s|secs?|seconds?|" + languages.SECONDS + r")$"
_UNIT_FIRST = (
    r"(^| )(ms|msecs?|millis|milliseconds?|secs?|seconds) "
    r"(viewed|visible|seen|in view|watched|on page|on screen|read|played|listened|spent|stayed)$"
)
_OVER = r"(^| )" + any_of("total avg average mean median sum lifetime cumulative user item") + "( |$)"
_SEEN = rf"(^| ){languages.VISIBLE}( {_MEASURES})*$"
_IN_VIEW = any_of("viewable viewability in_view seen displayed rendered impressed")
_EARLIER = any_of("before already ever previously times often how")
ZERO_DATES = tuple(
    f"{day}{clock}"
    for day in ("0000-00-00", "00/00/0000", "00.00.0000", "00-00-0000", "0000/00/00")
    for clock in (" 00:00:00", "", " 00:00", " 00:00:00.000", " 00:00:00.000000", "T00:00:00")
)
"""what MySQL writes where a time is not known, and what exports of it make of that"""
NOT_YET = any_of(
    "draft drafts unlisted rejected paused suspended on_hold geo_blocked geoblocked region_blocked"
    " restricted pending in_review under_review scheduled upcoming coming_soon embargoed private offline quarantined"
    " legal_hold hold"
    " entwurf brouillon borrador rascunho bozza concept pausiert pausado en_pausa suspendu suspendido sospeso 草稿"
    " draf konsep ditunda dijeda privat pribadi privé privada privado privato"
    " vázlat piszkozat kladd utkast udkast luonnos szkic koncept taslak ciornă nacrt osnutek juodraštis mustand"
    " melnraksts черновик чернетка чернова πρόχειρο kladde"
)
"""states of what is not, or not everywhere, to be had for now"""
DRAFT = any_of(
    "draft drafts entwurf brouillon borrador rascunho bozza concept draf konsep cancelled canceled aborted storniert"
    " vázlat piszkozat kladd utkast udkast luonnos szkic koncept taslak ciornă nacrt черновик чернетка чернова πρόχειρο"
    " annulé annulée cancelado cancelada annullato annullata geannuleerd dibatalkan iptal zrušeno anulowane 草稿 取消"
)
"""states of what somebody began and did not do"""
DATABASES = ("", "NULL", "null", "\\N", *ZERO_DATES)
"""texts that databases write for null: in any column of text they are none"""
SAID = (*DATABASES, "None", "N/A", "n/a", "-")
"""those of `NONE` that are none in a column where other texts stand beside them"""
NONE = (
    *SAID, "Null", "none", "NA", "nan", "NaN", "undefined", "(null)", "(none)", "#N/A", "#NV", "k.A.", "k. A.",
    "keine Angabe", "n.d.", "s/d", "s.d.", "б/д", "н/д", "无", "暂无", "不明", "なし", "없음",
)  # fmt: skip
"""texts that are no value where all others are numbers, yes and no or lists; where others are texts, such as ids, any
of them may be one (NA is a country), and is doubted"""
_GUESTS = (
    "guest guests guest_user anonymous anon anonymous_user not_logged_in logged_out gast gäste anonym invitado anonimo"
    " anónimo anônimo convidado visitante invité invite anonyme ospite misafir gość гость аноним гість επισκέπτης زائر"
    " ضيف אורח अतिथि 游客 匿名 访客 未登录 ゲスト 未登録 비회원 게스트"
)
_UNKNOWN = (
    "unknown unknown_user nobody unbekannt desconocido desconhecido inconnu sconosciuto неизвестно nieznany neznámý"
    " neznámy ismeretlen okänd ukendt ukjent tuntematon onbekend bilinmiyor bilinmeyen невідомо невідомий αγνωστος"
    " άγνωστος غير_معروف مجهول לא_ידוע अज्ञात 未知"
)
GUEST = any_of(_GUESTS).replace(" ", "[ _-]?")
"""values of who has no account"""
NOBODY = (
    r"^(0{3,}|0{8}-0{4}-0{4}-0{4}-0{12}|-1|(the_?)?" + any_of(f"{_GUESTS} {_UNKNOWN}").replace(" ", "[ _-]?") + r")$"
)
"""ids, in lower case, of users that are nobody, or many under one id"""
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BETWEEN = re.compile(
    r"[^\w\u0300-\u036f\u0591-\u05c7\u064b-\u0652\u0900-\u0903\u093a-\u0957\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]+|_"
)
"""no letter, digit or mark of one: vowels of Hindi and Thai are marks"""
_RECBOLE = re.compile(r":(token|float|token_seq|float_seq)$")


def bare(name: str) -> str:
    """A name without the type that RecBole writes behind it."""
    return _RECBOLE.sub("", name)


def words(name: str) -> str:
    """A column's name as lower-case words: userId, user_id:token and User-ID are all `user id`; of a nested name the
    whole path."""
    return " ".join(_BETWEEN.sub(" ", _CAMEL.sub(" ", bare(name))).lower().split())


_ID_FIRST = re.compile("^" + any_of("id cod codigo código codice code uuid kod clave nr nro") + " (.+)$")


def by_name(name: str, patterns: Patterns) -> int:
    """How well a name fits a role: 0 not at all, 3 or more surely. Of a nested name its end may fit, from any object
    on or its last word: `event.user.id` is as sure as `user.id`; and `id_usuario` as `usuario_id`."""
    path = bare(name).split(".")
    texts = {_ID_FIRST.sub(r"\2 id", words(".".join(path[k:]))) for k in range(len(path))}
    if len(path) > 1:
        texts.add(words(name).rsplit(" ", 1)[-1])
    return max((score for pattern, score in patterns if any(re.search(pattern, x) for x in texts)), default=0)


def is_within(name: str, patterns: Patterns) -> bool:
    """Whether one of the objects that a nested name is in has a name of a role: `item` of `item.user_id`. A session,
    say, is too weak a name of a user."""
    return any(by_name(part, patterns) >= 2 for part in bare(name).split(".")[:-1])


def is_when(name: str) -> bool:
    """Whether a name is that of a time."""
    return by_name(name, TIME) > 0 or says(name, WHEN)


def is_named_id(name: str) -> bool:
    """Whether a name is that of an id: a number with such a name is no time, whatever its value."""
    last = words(name.rsplit(".", 1)[-1])
    if re.search(DAY_KEY, last) is not None:
        return False
    named = re.search(r"(^| )(id|ids|uid|uuid|guid|key|sk|fk|sku|asin|token|hash|编号)$|^id ", last) is not None
    return named or max(by_name(name, USER), by_name(name, ITEM)) >= 2


def says_all(name: str, pattern: str) -> bool:
    """Whether a name, or the last one of a nested name, is what a pattern says."""
    return any(re.search(pattern, words(x)) is not None for x in (name, name.rsplit(".", 1)[-1]))


def says(name: str, pattern: str) -> bool:
    """Whether one of the name's words is among the pattern's; in a script without spaces, whether it has one."""
    if re.search(rf"(^| )(?:{pattern})( |$)", words(name)) is not None:
        return True
    return not name.isascii() and any(not c.isascii() for found in re.finditer(pattern, name) for c in found[0])


def is_history(name: str) -> bool:
    """Whether a name is of what was before an exposure: `session_items`, yet not its total, `session_engaged`."""
    return says(name, HISTORY) and re.search(r"(^| )session engage(d|ment)( |$)", words(name)) is None


def is_length_of_session(name: str) -> bool:
    """Whether a name is that of how long a session was, or a page was looked at, which is known when it is over."""
    of_another = says(name, languages.BEFORE)  # previous_session_length, avg_session_duration
    of_one = says(name, languages.SESSION) or says(name, languages.PAGE)
    return of_one and says(name, languages.LENGTH) and not of_another


def is_known_after(name: str) -> bool:
    """Whether a name is of something that is known only after an exposure."""
    return re.search(_AFTER, words(name)) is not None


def is_measured(name: str) -> bool:
    """Whether a number with such a name was measured while or after an item was shown: a length of time in seconds or
    less, or how much of it was in view; not one that says since when, or how long a server took."""
    texts = (words(name), words(name.rsplit(".", 1)[-1]))
    within = any(re.search(p, name) for p in (languages.VISIBLE_WITHIN, rf"{languages.SECONDS_WITHIN}(数|數|수)?$"))
    rest = re.sub(_UNIT_FIRST, "", texts[0])
    own = rest != texts[0] and not is_history(rest) and re.search(_OVER, rest) is None
    said = within or own or any(re.search(p, x) for p in (_MEASURED, _SEEN) for x in texts)
    if not said or (is_history(name) and not own) or re.search(languages.BEFORE_WITHIN, name) is not None:
        return False
    return re.search(rf"(^| ){languages.BEFORE}( |$)", texts[0]) is None


def is_of_sight(name: str) -> bool:
    """Whether a name says that an item was in view, or for how long; not that it was at another time."""
    text = words(name)
    said = any(re.search(rf"(^| ){p}( |$)", text) for p in (languages.VISIBLE, _IN_VIEW))
    if not said and re.search(languages.VISIBLE_WITHIN, name) is None:
        return False
    return re.search(rf"(^| )({HISTORY}|{languages.BEFORE}|{_EARLIER})( |$)|{languages.BEFORE_WITHIN}", text) is None


def count(n: int, what: str) -> str:
    """1 day, 2 days."""
    return f"{n:,} {what}{'s' if n != 1 else ''}"
