"""What outcomes, and the states of a table, are called in languages other than English and Chinese.

A word stands for itself as a person writes it and without its marks (`tıklandı`, `tiklandi`); `+` stands for any
ending. One that has another meaning elsewhere, or without its marks, is not here: `beli` (buys; white), `pesan` (order;
message), `cos` (basket; cosine), `indir` (download; `indirim` is a discount).
"""

from __future__ import annotations

import unicodedata

_BARE = str.maketrans("ıłøđ", "ilod")
"""letters that are no letter and a mark"""


def without_marks(text: str) -> str:
    """A text with plain letters in place of those with marks."""
    parts = unicodedata.normalize("NFKD", text.translate(_BARE))
    return "".join(c for c in parts if not unicodedata.combining(c))


def spelled(words: str) -> str:
    """The pattern of one of some words, given between spaces: `_` stands for a space within one or none, `+` at the end
    for any ending."""
    every = [w for word in words.split() for w in (word, without_marks(word)) if w]
    of = [w.replace("_", " ?").removesuffix("+") + (r"\w*" if w.endswith("+") else "") for w in dict.fromkeys(every)]
    return "(" + "|".join(of) + ")"


def within(words: str) -> str:
    """The pattern of some words of scripts without spaces, or in which a word grows at both ends."""
    return "(" + "|".join(words.split()) + ")"


def either(words: str, parts: str) -> str:
    """The pattern of one of some words, as `spelled` takes them, or of some as `within` does."""
    return f"({spelled(words)}|{within(parts)})"


CLICK = spelled(
    "tıklandı tıklama tıkladı klik klikk klick klicks kliks diklik geklickt angeklickt geklikt aangeklikt klikket"
    " klickad klickat kliknięt+ kliknięcie kliknął kliknuto kliknutí kliknutie proklik prokliknuto kattintás"
    " kattintott klikattu klikkaus klikki kliknut+ clic clics clicou clicado clicada clique cliqué cliccato"
    " pulsado клик+ нажат+ нажал+ клік+ натиснут+ натиснув κλικ"
)
CLICK_WITHIN = within("クリック 클릭 點擊 คลิก نقر کلیک הקלקה הוקלק קליק לחיצה क्लिक nhấp bấm")
STARTED = spelled(
    "izlendi okundu açıldı görüntülendi geöffnet gelesen gesehen abierto abrió leído aberto abriu visualizou"
    " visualizado ouvert aperto otwart+ obejrzan+ przeczytan+ otevřen+ přečten+ megnyitott megnézett olvasott"
    " deschis citit vizionat geopend bekeken gelezen åbnet læst åpnet öppnad öppnat läst avattu luettu katsottu"
    " dibuka dibaca ditonton відкрит+ прочитан+ переглянут+ открыт+ просмотрен+ άνοιξε διάβασε"
)
READING = spelled(
    "lesedauer lesezeit verweildauer betrachtungsdauer sehdauer wiedergabedauer hördauer hoerdauer"
    " tiempo_(de_)?(lectura|visto|visita|visualización|visualizacion|permanencia|escucha|reproducción|reproduccion)"
    " tempo_(de_)?(leitura|visita|visualização|visualizacao|permanência|permanencia|assistido|reprodução|reproducao)"
    " tempo_(di_)?(lettura|visita|visione|permanenza|ascolto)"
    " (temps|durée|duree)_(de_)?(lecture|visite|visionnage|écoute|ecoute|consultation|passé|passe)"
    " (duración|duracion|duração|duracao|durata)_(de_|da_|di_|della_)?(visita|lectura|leitura|lettura)"
    " (segundos|minutos|secondes|secondi)_(leídos|leidos|lidos|vistos|assistidos|lues|letti)"
    " leestijd kijktijd luistertijd (etsuran|taizai|shichou|shicho|dokusho|saisei)_jikan"
)
READING_WITHIN = within(
    "閲覧時間 滞在時間 視聴時間 再生時間 読書時間 閲覧秒数 滞在秒数 視聴秒数 체류시간 시청시간 재생시간 청취시간"
)
"""how long an item was read, watched or listened to"""
OPENED = spelled(
    "açıldı geöffnet abierto abierta abrió aberto aberta abriu ouvert ouverte aperto aperta otwart+ otevřen+ megnyitott"
    " deschis geopend åbnet åpnet öppnad öppnat avattu dibuka відкрит+ открыт+ άνοιξε anoixe"
)
ORDER = spelled(
    "sipariş siparişi satın_al+ satınalma ödendi kupion+ zakup zakupion+ zamówien+ zamówion+ opłacon+ koupen+ zakoupen+"
    " nákup objednáv+ objednan+ objednán+ zaplacen+ vásárlás vásárolt megvett+ rendelés megrendel+ cumpărat+"
    " comandat+ comandă gekocht besteld bestelling aankoop betaald købt kjøpt köpt beställ+ bestilt bestilling"
    " betalt ostettu tilattu maksettu dibeli membeli pembelian pesanan dipesan dibayar kharid+ paraggelia đã_mua"
    " mua_hàng đặt_hàng gekauft bestellt bestellung bezahlt comprado comprou compra pedido acheté achat commandé"
    " acquistato acquisto comprato ordinato commandes achats bestellungen käufe buchungen compras pedidos reservas"
    " ordini acquisti prenotazioni bestellingen aankopen boekingen beställningar bestillinger siparişler rendelések"
    " tilaukset куплен+ купил+ купив+ купівл+ покупк+ заказ+ замовлен+ придбан+"
    " оплачен+ поръчк+ αγορά αγόρασε παραγγελί+ kupljen+ naručen+"
)
ORDER_WITHIN = within("購入 注文 決済 구매 주문 결제 購買 下單 訂購 สั่งซื้อ ซื้อ شراء اشترى רכישה נרכש נקנה שולם खरीद خرید")
LIKE = spelled(
    "beğen+ beğeni favori+ polub+ ulubion+ oblíben+ lajk+ tetszik kedvel+ kedvenc+ apreciat+ plăcut leuk geliket"
    " geliked favoriet gilla gillad gillat likt favorit tykätty tykkäys suosikki+ disukai menyukai disimpan pasand"
    " yêu_thích đã_thích gefällt gefaellt gemerkt merkliste gusta me_gusta favorito curtiu curtida curtido gostou"
    " aimé piace piaciuto preferito лайк+ нравится понравил+ избранн+ вподоба+ сподоба+ αρέσει αγαπημένα"
)
LIKE_WITHIN = within("いいね お気に入り 좋아요 찜하기 點讚 收藏 ถูกใจ إعجاب اعجاب أعجب לייק אהבתי पसंद लाइक")
BASKET = spelled(
    "sepet sepete sepet_eklendi takip_etti abone_oldu indirildi tamamlandı koszyk+ subskryb+ pobrano ukończon+"
    " košík+ stažen+ dokončen+ kosár kosárba feliratkoz+ letölt+ befejez+ coșul adăugat_în_coș descărcat finalizat"
    " kalathi winkelwagen winkelmand+ mandje geabonneerd gedownload voltooid afgerond indkøbskurv kurv gennemført"
    " handlekurv varukorg kundvagn slutförd ostoskori+ ladattu keranjang diikuti langganan diunduh selesai"
    " giỏ_hàng hoàn_thành warenkorb abonniert heruntergeladen abgeschlossen carrito suscrito descargado completado"
    " terminado carrinho inscrito baixou concluído panier téléchargé carrello scaricato completato корзин+"
    " подписал+ скачан+ завершен+ досмотрен+ дочитан+ кошик+ підписав+ завантажен+ завершен+ καλάθι ολοκληρώθηκε"
)
BASKET_WITHIN = within(
    "カート フォロー 購読 完了 読了 장바구니 팔로우 구독 완독 完讀 加購 ตะกร้า ติดตาม سلة اكتمل إكمال עגלה הושלם कार्ट"
)
SHARE = spelled(
    "paylaş+ yorum_yaptı udostępn+ skomentowa+ sdílen+ okomentova+ megoszt+ distribuit gedeeld delt delad jaettu"
    " dibagikan dikomentari geteilt kommentiert compartido compartilhou compartilhado partagé condiviso поделил+"
    " поширен+"
)
SHARE_WITHIN = within("共有 シェア 공유 分享 แชร์ مشاركة שיתוף साझा")

SECONDS = spelled(
    "sekunde sekunden sekunder sekund sek milisekund+ millisekund+ sekúnd+ sekund+ secondes seconde millisecondes"
    " segundo segundos seg milisegundos milissegundos secondi secondo millisecondi seconden milliseconden secunde"
    " saniye sn milisaniye másodperc mp ezredmásodperc sekuntia sekunti detik giây секунд+ сек мс миллисекунд+"
    " мілісекунд+ δευτερόλεπτα"
)
SECONDS_WITHIN = within("秒 毫秒 초 วินาที ثانية ثواني שניות सेकंड")
"""seconds or less, of which something was measured"""
VISIBLE = spelled(
    "visible viewable viewability in_view inview on_screen onscreen in_viewport sichtbar sichtbarkeit sichtbare"
    " visibilité visibles visibilidad visibile visibili visibilità visível visíveis visibilidade zichtbaar"
    " zichtbaarheid synlig synlighet synlighed widoczn+ widzialn+ viditeln+ viditeľn+ látható láthatóság vizibil+"
    " vidljiv+ viden näkyvissä näkyvyys görünür görünürlük видим+ видно vidno vidim+ видност+ terlihat tampak"
    " hiển_thị ορατό ορατότητα"
    " nampak kelihatan ternampak nakikita inaonekana sigbaar sýnileg+ nähtav+ redzam+ matom+ görünen ikusgai dukshëm"
    " visíbel visibel gweladwy infheicthe vidn+ synligt synliga näkyvä näytöllä ruudulla látszik"
    " видлив+ видљив+ бачн+ көрінетін көрүнгөн ko_rinadigan ορατή ορατός ხილული տեսանելի"
    " im_sichtbereich im_sichtfeld im_bild i_bild i_billedet in_beeld in_vista a_schermo en_pantalla na_tela en_vue"
    " à_l_écran na_ekranie na_obrazovce na_obrazovke képernyőn ekranda på_skjermen på_skärmen på_skærmen pe_ecran"
    " na_zaslonu na_ekranu di_layar di_skrin trên_màn_hình на_экране на_екрані на_екрана στην_οθόνη"
)
VISIBLE_WITHIN = within(
    "可见 可見 可視 曝光时长 表示時間 視認 노출시간 가시 보임 화면노출 مرئي ظهور قابل_مشاهده נראות גלוי נראה"
    " दृश्य দৃশ্যমান มองเห็น เห็นบนจอ"
)
"""in view"""
BEFORE = spelled(
    "since ago age last latest previous prev until till left remaining elapsed first next seit vor alter letzte letzten"
    " letzter letztem bis verbleibend+ siden sedan sidst+ siste senaste forrige alder ålder igjen resterende sinds"
    " geleden laatste vorige leeftijd depuis dernier dernière derniers âge restant+ desde hace último última edad"
    " restante+ ultimo ultima fa età há idade od ostatni+ poprzedni+ wiek posledn+ předchozí věk vek óta utolsó"
    " előző ultimul ultima vârsta viimeinen viimeisestä edellinen ikä önce son önceki yaş kalan sejak terakhir"
    " umur sisa trước lần_cuối последн+ предыдущ+ возраст назад останн+ вік остал+ τελευταία ηλικία"
    " latency latence latenz latens latencia delay lag load loading render rendering response respond roundtrip rtt"
    " ttfb ping network server query rank ranking serve serving inference api cache db timeout ttl eta travel drive"
    " walk delivery offset skew drift jitter uptime midnight tod start begin countdown estimated expected predicted"
    " forecast avg mean average median usual typical"
)
BEFORE_WITHIN = within("距 上次 以来 最近 前回 経過 마지막 이후 منذ آخر מאז אחרון")
"""lengths of time that are known before: since what was, how long a server took, what is expected"""

_COUNT = spelled(
    "sayısı adedi adet miktarı toplam anzahl zahl gesamt número num nr n numero quantidade qtd cantidad total"
    " totale totales totais totali totaux nb nombre liczba ilość suma počet celkem száma szám összes număr număr_de"
    " aantal totaal antal antall"
    " totalt totala insgesamt yhteensä ukupno łącznie ogółem spolu skupaj összesen kokku iš_viso kopā итого всього"
    " загалом укупно общо σύνολο jumlah_total tổng määrä jumlah jml jlh количество число кол_во всего кількість"
    " αριθμός số lượt"
)
_SPAN = spelled(
    "week month today uge måned woche monat heute semana mes hoje hoy settimana mese oggi semaine mois vecka månad"
    " viikko kuukausi maand vandaag tydzień miesiąc týden měsíc hét hónap săptămână lună"
)
"""days of which a number is"""
_THIS = "(this|denne|diese|esta|questa|cette|denna|deze|tento)"
_COUNTED = spelled(
    "satış+ yorum+ beğeni+ görüntülenme+ izlenme+ tıklama+ favori+ değerlendirme+ takipçi+ indirme+ okunma+"
    " sipariş+ verkäufe verkauft bewertungen aufrufe klicks kommentare rezensionen abonnenten ventas vistas"
    " visitas reseñas comentarios valoraciones descargas seguidores compras vendas avaliações visualizações"
    " curtidas comentários ventes avis vues commentaires lectures téléchargements vendite recensioni"
    " visualizzazioni commenti visite ascolti sprzedaży sprzedanych opinii wyświetleń polubień komentarzy kliknięć"
    " pobrań prodejů prodaných recenzí zobrazení eladás+ eladott értékelés+ megtekintés+ vélemény+ kedvelés+"
    " vânzări vândut+ recenzii vizualizări aprecieri verkocht verkopen reviews beoordelingen weergaven reacties"
    " salg solgt solgte sålda anmeldelser omdömen recensioner visninger visningar kommentarer myyty katselu+"
    " arvostelu+ penjualan terjual ulasan dilihat tayangan komentar lượt_xem lượt_mua đánh_giá продаж+ просмотр+"
    " отзыв+ лайк+ комментари+ подписчик+ перегляд+ відгук+ πωλήσεων κριτικών προβολών reproducciones reproduções"
    " guardados guardadas calificaciones compartidos me_gusta salvamentos salvos salvataggi enregistrements gespeichert"
)
_DONE = (
    r"(leíd|leid|escuchad|comprad|vendid|reproducid|guardad|assistid|ouvid|salv)[oa]s"
    r"|(ascoltat|acquistat|vendut)[ie]|(vue|lue|achetée|vendue|écoutée)s|gelesen|gehört|gesehen|gekauft|bestellt"
    r"|(przeczytan|obejrzan|kupion|sprzedan)ych|læste|lästa|köpta|luettu|kuunneltu|ostettu"
)
"""what was done with many"""
TOTALS = (
    rf"(^| ){_COUNT}( (de|di|do|da|of))? {_COUNTED}( |$)|(^| ){_COUNTED} {_COUNT}( |$)"
    rf"|^{_COUNTED}$|(^| )({_DONE})$"
    rf"|^{spelled('aufrufe klicks ventas vendas ventes vendite terjual myyty verkocht solgt sålda продаж+ просмотр+')}$"
    rf"|(^| )({_COUNTED}|({_DONE})|sold|bought|viewed) ({_THIS} )?{_SPAN}( |$)"
    r"|(販売|売上|累計|再生|閲覧|レビュー|いいね|口コミ|ダウンロード|お気に入り|コメント|購入|注文)(数|件数|回数|個数)|^累計"
    r"|(누적|총)|(판매|조회|리뷰|후기|좋아요|구매|댓글|찜|다운로드|주문)(수|량|건수|횟수)$"
    r"|销量|銷量|(评论|評論|评价|評價|瀏覽|购买|購買|销售|銷售|下载)(数|數|量|次数|次數)$|^(累计|累計)"
    r"|(ยอด|จำนวน)(ขาย|รีวิว|วิว|ไลค์|ดู)|(عدد|إجمالي|مجموع).*(مبيعات|مشاهدات|تقييمات|تعليقات|مراجعات)"
    r"|(מספר|סך).*(צפיות|ביקורות|מכירות|לייקים)|कुल"
)
"""a running total"""
_LEADING = spelled(
    "total totals totalt totala totale totaal gesamt insgesamt yhteensä toplam celkem spolu łącznie ogółem razem"
    " ukupno skupaj összesen összes kokku iš_viso kopā итого всего всього загалом укупно общо σύνολο synolo tổng"
    " lifetime össz jumlah terkumpul bilangan cumulative kumulativ+ kumulert kumuliert accumulated acumulad+"
    " cumulé+ cumulat+"
)
UNIT = r" (m2|m²|m3|m³|sqm|sqft|sq ?ft|ft2|qm|kvm|kwh?|kg|km|[cm]m|ltr|kcal|kj|[kmg]b|px|dpi|mah|hp|ps)$"
"""the unit at the end of a name: none that is a language's code too"""
CURRENCY = (
    r" (eur|usd|gbp|chf|sek|nok|dkk|isk|pln|czk|huf|ron|bgn|rsd|rub|uah|kzt|gel|inr|pkr|bdt|lkr|idr|myr|thb|vnd|jpy|cny"
    r"|krw|brl|mxn|ars|clp|zar|ngn|kes|egp|ils|nis|aed|sar|cad|aud|nzd|sgd|hkd|twd|eurocent|cents?|rm|rp|baht"
    r"|zł|zl|kč|kc|lei|sfr|yen|yuan|won|руб|грн|тенге|лв)$"
)
"""the currency at the end of a name"""
TOTAL_OF_WORD = rf"(^| ){_LEADING}( |$)"
TOTAL_OF = (
    rf"^[^ ]{{3,}}( [^ ]+)* {_LEADING}$|^{_LEADING}( [^ ]{{3,}}( [^ ]+)*$|{CURRENCY})"
    r"|^.{2,}(总数|总量|總數|總量|総数|合計|累計|累计|합계|총수|누적)$"
)
"""a total of something that the name says"""
MEASURE = spelled(
    "seat seats bed beds floor floors capacity area surface volume mileage km m2 kcal calories sugar fat points_max"
    " areal fläche wohnfläche superficie oppervlakte powierzchnia plocha terület alan площадь площа yüzölçümü"
    " betten zimmer senger sengeplasser soverom rom rum bäddar camas habitaciones chambres pièces camere locali quartos"
    " łóżka pokoje pokoj+ lůžek szoba oda комнат+ кімнат+ seiten sider sidor pages páginas pagine pagina_s strony stran"
    " oldal sayfa страниц+ vekt vikt gewicht peso poids waga váha súly ağırlık вес вага länge lengde längd longueur"
    " largo lunghezza długość délka hossz uzunluk длина plasser platser pladser plätze plazas places posti miejsca"
    " míst plaatsen mest kapasitet kapacitet kapazität capacidad capacité capacità pojemność этаж+ etasjer etagen"
    " étages pisos"
)
"""what an item is by itself, however often it is clicked"""
HOW_MANY = spelled(
    "sayısı adedi adet anzahl quantidade qtd cantidad liczba ilość počet száma număr aantal antal antall määrä jumlah"
    " jml jlh количество кол_во кількість αριθμός lượt"
)
"""how many, by words that stand for nothing else: a number, an n or a nombre may be a code or a name"""
COUNT_OF = rf"(^| ){_COUNT}( |$)|(^| )(count|counts|cnt|num|number|n|so far|to date)( |$)"
"""how many, of something that the name says"""
MEANS = (
    r"(^| )"
    + spelled(
        "vurdering vurderinger anmeldelse anmeldelsesscore bedømmelse bedømming betyg snittbetyg snittvurdering"
        " gjennomsnittsvurdering gennemsnitsvurdering genomsnittsbetyg terningkast karakter arvio ocjena"
        " hodnotenie evaluare evaluación évaluation calificativ punctaj punteggio puntaje puntuación_media"
        " valoración_media voto media_voti nota note cijfer score_moyen rating_médio rating_medio reiting reyting"
        " rejting ocenka оцінка оцена įvertinimas vērtējums hinnang αξιολόγηση penilaian peringkat điểm"
        " puan puanı ortalama_puan bewertung durchschnittsbewertung sternebewertung valoración calificación"
        " puntuación nota_media avaliação note_moyenne voto_medio valutazione ocena średnia_ocena hodnocení"
        " értékelés beoordeling waardering arvosana nilai_ulasan рейтинг оценка середня_оцінка βαθμολογία vathmologia"
    )
    + "( "
    + spelled(
        "snitt gjennomsnitt genomsnitt gennemsnit medel durchschnitt schnitt media médio medio medie moyen+"
        " promedio gemiddelde średni+ průměr átlag ortalama+ средн+ середн+ mean avg average"
    )
    + r")?$|^(評価|評価平均|平均評価|評点|レビュー評価|評分|평점|별점|คะแนน|التقييم|تقييم|דירוג|रेटिंग)"
)
"""a mean of ratings"""
SESSION = either(
    "session visit sesión sessão sitzung besuch séance visite sessione visita sessie bezoek sesja wizyta"
    " relace návštěva munkamenet látogatás sesiune istunto käynti besøk besøg besök oturum ziyaret sesi"
    " kunjungan phiên сессия сессии сеанс визит визита сесія",
    "会话 會話 访问 セッション 세션",
)
PAGE = either(
    " page screen página pantalla tela seite bildschirm écran pagina schermo scherm strona ekran stránka oldal"
    " képernyő pagină ecran sivu näyttö side skjerm skærm sida skärm sayfa halaman layar trang страница страницы"
    " странице экран экране сторінка сторінці stronie stránce oldalon",
    "页面 頁面 ページ 画面 페이지 화면",
)
"""what was on a screen at once"""
LENGTH = either(
    "length duration lasted time sec secs second seconds ms millis minutes mins s min duración segundos"
    " minutos duração dauer dauerte länge sekunden minuten durée secondes durata secondi minuti duur seconden"
    " sekundy minuty czas délka hossz másodperc durată secunde kesto sekuntia varighet varighed sekunder"
    " längd süre süresi saniye durasi detik thời_lượng длительность секунд",
    "时长 秒 時間 시간 초",
)
"""of a session: how long it was"""
PORTION = either(
    "porcentaje proporción fracción progreso percentual porcentagem fração progresso percentuale pourcentage"
    " avancement progression prozent anteil fortschritt percentage voortgang procent andel fremdrift framsteg"
    " procenty udział postęp podíl průběh procenta arány haladás százalék procentaj osuus prosentti oran"
    " yüzde ilerleme persen persentase tỷ_lệ phần_trăm процент доля прогресс відсоток частка ποσοστό",
    "比例 百分比 进度 割合 進捗 비율 진행률",
)
"""how much of something"""
STOCK = (
    r"(^| )"
    + spelled(
        "stock stok stoku inventory stock_level stock_qty stock_count on_hand bestand lagerbestand estoque"
        " inventario existencias giacenza giacenze voorraad lagersaldo lagerbeholdning varastosaldo készlet"
        " raktárkészlet skladem stan_magazynowy stoc persediaan tồn_kho остаток запас залишок απόθεμα apothema"
    )
    + "( ?"
    + spelled("adedi adet miktarı qty quantity count level units menge anzahl cantidad quantidade")
    + r")?$|在庫|库存|庫存|재고|สต็อก|مخزون|מלאי"
)
"""how many are left"""
RATES = (
    r"(^| )(taux|tasa|taxa|tasso|ratio|índice|indice) (de |di |du |d |do )?"
    + spelled(
        "clic clics cliques click completion complétion completado finalización finalizacion lectura leitura lettura"
        " lecture conversion conversión conversão conversione ouverture apertura abertura abandon abandono rebond"
        " rebote éxito sucesso engagement acierto réussite recommandation recomendación compra compras achat acquisto"
        " reso resi rimborso retour retours remboursement devolución devoluciones devolução devoluções reembolso"
    )
    + "( |$)|(^| )(klick|abschluss|lese|abbruch|öffnungs|kauf|rücksende|retouren|storno|les|klikk?|"
    r"fullførings|åpnings|gjennomførings|kliknięć)"
    r" ?(quote|rate|rater|prosent|procent|ratio)( |$)"
)
"""a rate of what users do"""
RECENCY = (
    r"(^| )(days?|hours?|weeks?|months?|minutes?|time) since (the )?(last|latest|most recent) "
    r"|(^| )last [^ ]+( [^ ]+)? (days?|hours?|weeks?|months?) ago$|(^| )recency( days)?$"
    r"|(^| )(giorni|ore|settimane|mesi) (da|dal|dall|dalla)( l)? ?ultim[oa]( |$)"
    r"|(^| )(jours|heures|semaines|mois) depuis (le |la |l )?derni(er|ère|ere)( |$)"
    r"|(^| )(tage|stunden|wochen|monate) seit (dem |der )?letzte[rmns]?( |$)"
    r"|(^| )(d[ií]as|horas|semanas|meses) desde (el |la |o |a )?[uú]ltim[oa]( |$)"
    r"|(^| )(dagen|uren|weken|maanden) sinds (de |het )?laatste( |$)"
    r"|(^| )(dni|godzin|tygodni) od ostatni(ego|ej)( |$)"
)
"""how long ago something was done last"""
NOW = f"(^| ){spelled('now nyt nu jetzt aktuell ahora agora adesso attuale maintenant teraz nyní')}$"
"""of a number: that of the day on which the table was written"""
BORN = (
    "^("
    + spelled("ürün+ item article video content")
    + " )?"
    + spelled(
        "eklenme_tarihi eklendi yayın_tarihi yayınlanma_tarihi oluşturma_tarihi oluşturulma_tarihi"
        " fecha_publicación fecha_de_publicación fecha_alta fecha_de_alta fecha_creación fecha_de_creación"
        " data_publicação data_de_publicação data_criação data_de_criação data_cadastro date_publication"
        " date_de_publication date_création date_ajout ajouté_le publié_le erstellt erstellt_am angelegt_am"
        " veröffentlicht_am gepubliceerd gepubliceerd_op opublikowano dodano publicado_en publicado_el publicado_em"
        " alta_en mis_en_ligne mis_en_ligne_le pubblicato pubblicato_il publiceret publikováno publicat yayınlandı"
        " dimosiefthike δημοσιεύθηκε δημοσιεύτηκε опубликовано опубліковано diterbitkan ngày_phát_hành"
        " einstelldatum erscheinungsdatum erscheint_am data_pubblicazione data_di_pubblicazione data_creazione"
        " data_inserimento data_dodania data_publikacji data_utworzenia datum_přidání datum_vydání datum_vložení"
        " datum_vytvoření feltöltve létrehozva megjelenés data_adăugării data_publicării datum_toegevoegd"
        " beschikbaar_vanaf beschikbaar_sinds online_sinds online_vanaf verfügbar_ab verfügbar_seit online_seit"
        " online_ab disponible_desde disponible_depuis disponible_à_partir_du disponibile_dal disponibile_da"
        " disponível_desde disponível_a_partir_de dostępny_od dostępne_od dostępna_od dostupné_od tillgänglig_från"
        " tilgængelig_fra tilgjengelig_fra saatavilla_alkaen tersedia_sejak доступно_с доступен_с"
        " publicatiedatum geplaatst_op publicerad skapad oprettet udgivet opprettet publisert julkaistu lisätty"
        " luotu tanggal_rilis tanggal_terbit tanggal_dibuat ngày_đăng ngày_tạo дата_добавления дата_публикации"
        " дата_создания дата_выхода дата_додавання дата_публікації ημερομηνία_δημοσίευσης"
    )
    + r"$|^(公開|登録|発売|作成|配信|掲載|投稿)(日|日時|時刻)$|^(發布|上架|建立)(時間|日期)$"
    + r"|^(등록|게시|출시|발행|작성|공개)(일|일시|시각)$|تاريخ.*(نشر|إضافة|إنشاء)|תאריך.*(פרסום|הוספה|יצירה)"
)
"""the time since which an item is there"""
UNTIL = (
    spelled(
        "bis läuft_ab ablauf ablaufdatum abgelaufen gültig_bis tot tot_en_met einde einddatum vervalt verloopt"
        " verwijderd jusqu_à jusqu_au fin expire_le date_fin retiré hasta caduca caducidad vencimiento baja fecha_baja"
        " até expira_em fim fino_al scade scadenza fine do_dnia koniec wygasa do_dne konec vyprší vége lejár până_la"
        " expiră till_och_med slutdatum utgår udløber slutdato utløper päättyy asti bitiş bitiş_tarihi son_tarih"
        " kaldırıldı berakhir hết_hạn до окончание снят действует_до закінчення λήξη έως"
    )
    + "|"
    + within("下架 下线 下線 截止 结束 結束 过期 過期 失效 终了 終了 期限 掲載終了 종료 만료 마감 انتهاء תפוגה สิ้นสุด")
)
"""the time until which an item is there"""
TEST = (
    "(^| )"
    + spelled(
        "eksperiment+ experimento experimentos experimentation expérimentation eksperyment+ esperiment+ kísérlet+"
        " eksperimen эксперимент+ експеримент+ πείραμα testgruppe testgrupp testgruppa testgrupa"
        " testgroep versuchsgruppe försöksgrupp forsøksgruppe forsøgsgruppe kontrollgruppe kontrolgruppe kontrollgrupp"
        " koeryhmä testiryhmä deney_grubu test_grubu gruppo_sperimentale gruppo_di_test grupo_experimental"
        " grupo_de_prueba grupo_de_teste groupe_de_test groupe_expérimental grupa_testowa grupa_eksperymentalna"
        " grup_test testovací_skupina testovacia_skupina tesztcsoport kísérleti_csoport testna_skupina test_grupa"
        " kelompok_uji тестовая_группа тест_группа тестова_група nhóm_thử_nghiệm"
    )
    + "( |$)|"
    + within(
        "实验组 实验分组 實驗組 分流 実験群 実験グループ テスト群 실험군 실험그룹 المجموعة\\s?التجريبية קבוצת\\s?ניסוי"
    )
)
"""the group of a test"""
CONTROL = (
    "^("
    + spelled(
        "control ctrl kontroll kontrol kontrolle kontrola kontrolle контроль контрол controllo controle contrôle témoin"
        " verrokki kontrollryhmä controlegroep kontrollcsoport kontrolní kontrolna kontrolná kontrolni kontrolny"
        " kontroll_gruppe kontrol_gruppe kontroll_grupp kontroll_gruppa контрольная контрольна контрольный"
        " контрольная_группа контрольна_група контролна_група grupo_control grupo_de_control grupo_controle"
        " grupo_de_controle groupe_contrôle groupe_de_contrôle groupe_témoin gruppo_controllo gruppo_di_controllo"
        " grupa_kontrolna grup_control grup_de_control kontrolní_skupina kontrolná_skupina kontrolna_skupina"
        " kontrolna_grupa kontrol_grubu kelompok_kontrol nhóm_đối_chứng ομάδα_ελέγχου"
    )
    + "( ?(group|grp|arm|bucket))?( ?[a-d]| ?v?[0-9]+)?|"
    + within("对照组? 對照組? 控制组 控制組 対照群? コントロール群? 대조군? 통제군 קבוצת\\s?ביקורת ضابطة")
    + ")$"
)
"""of the groups of a test that with which nothing is tried"""
GONE = (
    spelled(
        "retirado retirada oculto oculta ocultado eliminado eliminada borrado borrada archivado archivada"
        " inactivo inactiva dado_de_baja de_baja caducado vencido vendido vendida agotado bloqueado desactivado"
        " reservado reservada alugado alugada arrendado arrendada alquilado alquilada suspendido suspensa suspenso"
        " trukket trukket_tilbage tilbagetrukket tilbakekalt avpublisert avpublicerad indragen"
        " loué louée réservé réservée vermietet reserviert verhuurd gereserveerd affittato affittata riservato"
        " wynajęt+ zarezerwowan+ rezervováno pronajat+ kiadva lefoglalt închiriat rezervat uthyrd reserverad udlejet"
        " reserveret utleid reservert vuokrattu varattu kiralandı rezerve disewa dipesan đã_thuê сдан+ зарезервирован+"
        " здан+ зарезервован+ отдаден+ резервиран+"
        " despublicado removido removida excluído arquivado inativo expirado esgotado desativado ocultado rimosso"
        " rimossa ritirato ritirata archiviato nascosto scaduto scaduta venduto venduta esaurito bloccato"
        " disattivato retiré retirée supprimé supprimée archivé archivée masqué expiré expirée vendu vendue"
        " épuisé désactivé bloqué inactif dépublié gelöscht geloescht zurückgezogen zurueckgezogen entfernt archiviert"
        " inaktiv versteckt ausgeblendet abgelaufen verkauft ausverkauft gesperrt deaktiviert beendet verwijderd"
        " ingetrokken gearchiveerd verborgen verlopen verkocht uitverkocht geblokkeerd inactief usunięt+ wycofan+"
        " archiwaln+ zarchiwizowan+ ukryt+ nieaktywn+ wygas+ sprzedan+ smazan+ smazán+ archivován+ skryt+ skrýt+"
        " neaktivn+ prodán+ törölt visszavont archivált rejtett inaktív lejárt eladott șters retras arhivat"
        " ascuns expirat vândut borttagen raderad arkiverad dold utgången såld slettet fjernet arkiveret arkivert"
        " skjult udløbet utløpt solgt poistettu arkistoitu piilotettu vanhentunut myyty silindi silinmiş"
        " kaldırıldı arşivlendi gizlendi pasif süresi_doldu satıldı dihapus diarsipkan disembunyikan kedaluwarsa"
        " ditarik ditarik_kembali diblokir ditutup ditangguhkan"
        " zrušen+ vyprodán+ odvolán+ vypredan+ anulowan+ odwołan+ unieważnion+ wyprzedan+ cancelado cancelada annullato"
        " annullata annulé annulée abgesagt storniert geannuleerd avlyst avlysning inställd aflyst peruttu loppuunmyyty"
        " iptal tükendi anulat anulată epuizat törölve elmarad elfogyott lemondva отменен+ отменён+ распродан+"
        " скасован+ rozprodan+ otkazan+ rasprodan+ odpovedan+ razprodan+ ακυρώθηκε εξαντλήθηκε utsolgt udsolgt"
        " utsåld slutsåld"
        " yayından_kaldırıldı kapatıldı dibatalkan habis đã_hủy hết_hàng"
        " terjual nonaktif đã_xóa đã_gỡ đã_ẩn hết_hạn đã_bán удал+ снят+ скрыт+ архив+ отозван+ неактив+ истек+"
        " продан+ видален+ знят+ прихован+ изтрит+ свален+ скрит+ διαγραμμέν+ αποσυρμέν+ κρυφό ανενεργ+"
    )
    + "|"
    + within(
        "已删除 已下架 下架 下线 下線 删除 刪除 隐藏 隱藏 过期 過期"
        " 售罄 停用 封禁 已取消 削除 非公開 非表示 掲載終了 配信終了 販売終了 中止 売り切れ"
        " 삭제 비공개 숨김 만료 품절 매진 취소 종료"
    )
)
"""of a state: what was withdrawn"""
THERE = either(
    "active live ongoing cleared published online available listed on_sale for_sale enabled open current activo"
    " activa publicado publicada disponible en_venta vigente ativo ativa disponível disponivel no_ar"
    " actif active publié publiée en_ligne aktiv veröffentlicht veroeffentlicht verfügbar verfuegbar"
    " freigegeben actief beschikbaar gepubliceerd attivo attiva pubblicato pubblicata disponibile"
    " aktywn+ dostępn+ opublikowan+ aktivn+ dostupn+ zveřejněn+ objavljen+ elérhető közzétett aktív"
    " activă disponibil publicat publicerad tillgänglig tilgængelig udgivet publiceret tilgjengelig publisert"
    " saatavilla julkaistu aktiivinen yayında aktif satışta tayang terbit tersedia đang_hoạt_động"
    " hoạt_động đang_bán активн+ опубликован+ доступн+ опубліковано активно доступно публикуван+"
    " активен налич+ ενεργ+ δημοσιευμέν+ διαθέσιμ+",
    "在售 上架 已发布 正常 公開 公開中 配信中 販売中 掲載中 판매중 공개 서비스중 연재중",
)
"""of a state: what is there"""
IS_THERE = spelled(
    "aktiv aktif attivo aktywn+ aktivn+ aktiivinen disponible disponível disponibile verfügbar verfuegbar beschikbaar"
    " dostępn+ dostupn+ elérhető disponibil tillgänglig tilgængelig tilgjengelig saatavilla tersedia publicado"
    " publicada publié publiée veröffentlicht veroeffentlicht gepubliceerd pubblicato pubblicata opublikowan+"
    " zveřejněn+ publicerad publiceret publisert julkaistu yayında satışta en_ligne en_venta no_ar активн+ доступн+"
    " опубликован+ опубліковано"
)
"""of flags: whether a thing is there"""
WITHDRAWAL = spelled(
    "retirada baja baixa eliminación remoção exclusão retrait suppression rimozione ritiro eliminazione löschung"
    " loeschung rückzug verwijdering wycofania usunięcia stažení smazání odebrání silinme kaldırılma"
    " yayından_kaldırılma yayından_kaldırma borttagning sletning fjernelse poisto törlés удаления снятия видалення"
)
"""of a time: the act of taking a thing away"""
DATE = spelled(
    "data data_de data_da data_do data_di data_della data_del fecha fecha_de fecha_de_la date_de date_d date_du"
    " datum datum_der czas czas_do дата"
)
WHEN = spelled("em am le el il op dnia den på tarihi tarih zamanı datum dato datuma dátuma päivä tanggal")
"""after a word, or before it: when it was so"""
SERIAL = either(
    "ongoing serializing serialising en_curso en_emisión em_andamento in_corso en_cours laufend đang_ra",
    "连载 連載 연재",
)
"""of a state: a series of which more is to come"""
COMPLETE = either(
    "complete completed finished concluded hiatus on_hiatus on_break completo completa completado completada"
    " finalizado finalizada concluído concluída completato terminé terminée abgeschlossen hoàn_thành",
    "完结 完結 완결 휴재 休載 休刊",
)
"""of a series beside those of which more is to come, which is there for as long"""
NEW = either(
    "new neu nuevo nueva novo nova nouveau nowy nový nové nuovo nieuw ny uusi yeni baru mới нов+ νέο",
    "新着 新商品 신규",
)
"""of a state: what is there for a while"""
MINUTES = r"(min|mins|minutes?|minutos?|minuten|minuti|minut[a-zęyů]*|минут\w*|хвилин\w*|dakika|menit|phút)"
"""of a length of time"""
STATE = either(
    "estado situación situação estatus stato zustand état statut staat stan stav állapot státusz stare"
    " tillstånd tilstand tila durum durumu trạng_thái состояние статус стан статусът κατάσταση",
    "状态 狀態 状況 ステータス 상태",
)
"""of a thing's state"""
