//! Listing 14.4: three meanings of "similar picture": same content, same style, same file.
//!
//! cargo run --release --example media_style_duplicate_search

use eas_data::synth::media::{Edit, Picture, SHAPES, STYLES, pictures};
use eas_eval::separation::neighbour_purity;
use eas_report::{Chart, Table, pct};
use eas_retrieval::media::{Media, MediaError, MediaIndex, average_hash, difference_hash, perceptual_hash};
use eas_tensor::Matrix;
use eas_tensor::hamming::BkTree;
use eas_tensor::image::{Image, Plane};

type Hash = fn(&Plane) -> Result<u64, MediaError>;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let set = pictures(page.size(8, 40), page.seed())?;
    let shapes: Vec<usize> = set.iter().map(|p| p.shape).collect();
    let styles: Vec<usize> = set.iter().map(|p| p.style).collect();
    page.text(format!(
        "{} pictures of 5 shapes in 5 styles. A picture has three kinds of relatives, and each descriptor finds one kind.",
        set.len()
    ));

    // One index holds all descriptors; a JPEG copy of picture 0 goes in as well.
    let mut index = MediaIndex::new();
    let mut assets: Vec<(u64, Media)> = (0..).zip(set.iter().map(|p| Media::Image(p.image.clone()))).collect();
    let copy_id = assets.len() as u64;
    assets.push((copy_id, Media::Image(Edit::Jpeg.apply(&set[0].image, 0)?)));
    page.timed("index", || index.insert_all(&assets))?;

    // Content and style: does a picture's neighbourhood share its shape, or its texture?
    let (mut content, mut style) = (Vec::new(), Vec::new());
    for id in 0..copy_id {
        let descriptors = index.get(id)?;
        content.push(descriptors.content.clone());
        style.extend(descriptors.style.clone());
    }
    let mut table = Table::new(["descriptor", "numbers", "same shape", "same style"]);
    let mut purity = Vec::new();
    for (name, rows) in [("content", content), ("style", style), ("raw pixels", raw_pixels(&set))] {
        let rows = Matrix::from_rows(&rows)?;
        let of_shape = neighbour_purity(&rows, &shapes, 10)?;
        let of_style = neighbour_purity(&rows, &styles, 10)?;
        table.row([name.into(), rows.dim().into(), pct(of_shape, 1), pct(of_style, 1)]);
        purity.push((of_shape, of_style));
    }
    let chance = (set.len() / 5 - 1) as f64 / (set.len() - 1) as f64;
    table.row(["chance".into(), "".into(), pct(chance, 1), pct(chance, 1)]);
    page.table("What the ten nearest pictures have in common", &table);

    // Near-duplicates: hash the originals, then seven edited copies of each.
    let hashes: [(&str, Hash); 3] = [("phash", perceptual_hash), ("ahash", average_hash), ("dhash", difference_hash)];
    let mut table = Table::new(["edit", "phash r=5", "phash r=10", "ahash r=5", "ahash r=10", "dhash r=10"]);
    let mut originals = Vec::new();
    for (_, hash) in hashes {
        let own: Result<Vec<u64>, _> = set.iter().map(|p| hash(&p.image.luminance())).collect();
        originals.push(own?);
    }
    let mut recalls = Vec::new();
    for edit in Edit::ALL {
        let mut found = [[0usize; 2]; 3];
        for (i, picture) in set.iter().enumerate() {
            let copy = edit.apply(&picture.image, i as u64)?.luminance();
            for (h, (_, hash)) in hashes.iter().enumerate() {
                let distance = (hash(&copy)? ^ originals[h][i]).count_ones();
                found[h][0] += usize::from(distance <= 5);
                found[h][1] += usize::from(distance <= 10);
            }
        }
        let share = |h: usize, r: usize| found[h][r] as f64 / set.len() as f64;
        let cells = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)].map(|(h, r)| pct(share(h, r), 1));
        table.row([edit.name().into()].into_iter().chain(cells));
        recalls.push((edit, share(0, 1)));
    }
    let alarms = |h: usize, radius: u32| close_pairs(&originals[h], radius);
    let cells = [(0, 5), (0, 10), (1, 5), (1, 10), (2, 10)].map(|(h, radius)| pct(alarms(h, radius), 1));
    table.row(["unrelated pairs".into()].into_iter().chain(cells));
    page.table("Copies found within r bits, and unrelated pairs taken for copies", &table);

    // The index answers all three questions for one picture.
    let near = index.describe(0, 3)?;
    let named = |id: u64| set.get(id as usize).map_or("its JPEG copy".into(), caption);
    let mut table = Table::new(["nearest by", "1st", "2nd", "3rd"]);
    for (name, hits) in [("content", &near.content), ("style", &near.style)] {
        let hits = hits.iter().map(|hit| format!("{} {:.3}", named(hit.id), hit.score).into());
        table.row([name.into()].into_iter().chain(hits));
    }
    let bits =
        |i: usize| near.duplicates.get(i).map_or("-".into(), |d| format!("{}, {} bits", named(d.id), d.distance));
    table.row(["hash".into(), bits(0).into(), bits(1).into(), bits(2).into()]);
    page.table(format!("Neighbours of picture 0 ({})", caption(&set[0])), &table);
    let plain = |rgb: [u8; 3]| Image::new(64, 64, rgb.repeat(64 * 64));
    let plain = [("orange", plain([255, 165, 0])?), ("purple", plain([128, 0, 128])?), ("blue", plain([0, 0, 255])?)];
    page.text(
        "A plain orange, a purple and a blue picture all have the average hash 0: duplicates of each other, to it.",
    );

    // Radius search without a scan.
    let mut tree = BkTree::new();
    for (id, &hash) in originals[0].iter().enumerate() {
        tree.insert(hash, id);
    }
    let searched: Vec<_> = originals[0].iter().map(|&hash| (hash, tree.within(hash, 5))).collect();
    let scan = |hash: u64| {
        let distances = originals[0].iter().map(|other| (other ^ hash).count_ones());
        let mut near: Vec<(u32, usize)> = distances.zip(0..).filter(|(distance, _)| *distance <= 5).collect();
        near.sort_unstable();
        near
    };
    let visited: usize = searched.iter().map(|(_, found)| found.visited).sum();
    let visited = visited as f64 / (searched.len() * tree.nodes()) as f64;
    let mut table = Table::new(["search within 5 bits", "codes compared"]);
    table.row(["scan".into(), pct(1.0, 1)]);
    table.row(["BK-tree".into(), pct(visited, 1)]);
    page.table(format!("Radius search among {} hashes", tree.nodes()), &table);

    let mut sheet = Chart::images("Five shapes in five styles, then one picture and its copies", 5);
    for kind in set.chunk_by(|a, b| (a.shape, a.style) == (b.shape, b.style)) {
        sheet = sheet.tile(caption(&kind[0]), 64, 64, kind[0].image.rgb());
    }
    let shown = &set[set.len() / 2].image;
    sheet = sheet.tile("original", 64, 64, shown.rgb());
    for edit in Edit::ALL {
        let copy = edit.apply(shown, 0)?;
        sheet = sheet.tile(edit.name(), copy.width(), copy.height(), copy.rgb());
    }
    page.chart("contact_sheet.png", &sheet)?;

    // A picture with known hashes.
    let wave = |map: fn(f64) -> f64| {
        Plane::from_fn(32, 32, |x, y| {
            let (x, y) = (x as f64, y as f64);
            let (across, down) = (40.0 * (0.3 * x + 0.2).sin(), 30.0 * (0.5 * y + 0.1 * x).cos());
            map(127.5 + across + down + 20.0 * (x * y / 80.0 + 0.7).sin())
        })
    };
    let hash = perceptual_hash(&wave(|v| v)?)?;
    let (dimmed, inverted) = (perceptual_hash(&wave(|v| 0.6 * v + 30.0)?)?, perceptual_hash(&wave(|v| 255.0 - v)?)?);
    let hex = |hash: u64| format!("{hash:#018x}");
    page.claim("the perceptual hash of the wave picture is the known one").equals(hex(hash), "0x70cf1aa56ad58117");
    page.claim("its average hash is the known one").equals(hex(average_hash(&wave(|v| v)?)?), "0xe2c7e6e0c3e7c6c6");
    page.claim("dimming it leaves the perceptual hash as it is").equals(hex(dimmed), hex(hash));
    page.claim("inverting it flips 62 of the 64 bits").equals((inverted ^ hash).count_ones(), 62);
    page.claim("every perceptual hash has 31 bits set").all(&originals[0], |hash| hash.count_ones() == 31);
    page.claim("neighbours by style share the style").at_least(purity[1].1, 0.95);
    page.claim("neighbours by content share the shape").at_least(purity[0].0, 0.70);
    page.claim("neighbours by content do not share the style").at_most(purity[0].1, 0.40);
    page.claim("raw pixels find the shape less often than content does").less(purity[2].0, purity[0].0);
    for (edit, recall) in recalls.iter().take(5) {
        let sentence = format!("within 10 bits the perceptual hash finds the copies after {}", edit.name());
        page.claim(sentence).at_least(*recall, 0.95);
    }
    page.claim("it takes few unrelated pairs for copies").at_most(alarms(0, 10), 0.06);
    page.claim("the average hash takes many").at_least(alarms(1, 10), 0.30);
    for (name, image) in plain {
        page.claim(format!("plain {name} has the average hash 0")).equals(average_hash(&image.luminance())?, 0);
        page.claim(format!("the index refuses plain {name}")).fails(index.insert(0, &Media::Image(image)), "flat");
    }
    page.claim("the BK-tree finds what the scan finds").all(&searched, |(hash, found)| found.hits == scan(*hash));
    page.claim("the BK-tree compares less than 60% of the codes").less(visited, 0.60);
    let copy = near.duplicates.iter().find(|d| d.id == copy_id).map_or(64, |d| d.distance);
    page.claim("the JPEG copy of picture 0 is among its duplicates").at_most(copy, MediaIndex::RADIUS);
    page.finish()
}

fn caption(picture: &Picture) -> String {
    format!("{}, {}", SHAPES[picture.shape], STYLES[picture.style])
}

/// The bytes themselves, less their mean: the baseline.
fn raw_pixels(set: &[Picture]) -> Vec<Vec<f32>> {
    let centred = |p: &Picture| {
        let values: Vec<f32> = p.image.rgb().iter().map(|&x| f32::from(x)).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        values.iter().map(|x| x - mean).collect()
    };
    set.iter().map(centred).collect()
}

/// Share of the pairs within `radius` bits of each other.
fn close_pairs(hashes: &[u64], radius: u32) -> f64 {
    let pairs = || (0..hashes.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    let close = pairs().filter(|&(i, j)| (hashes[i] ^ hashes[j]).count_ones() <= radius).count();
    close as f64 / pairs().count() as f64
}
