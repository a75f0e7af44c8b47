//! Search in pictures, videos and sounds: by content (what is shown and where), by style (texture and colour, wherever it
//! is), and for near-duplicates (perceptual hashes).
//!
//! Descriptors and hashes are deterministic; nothing is learnt.

use eas_tensor::hamming::BkTree;
use eas_tensor::image::{Gabor, Image, Plane, gram};
use eas_tensor::signal::LogMel;
use eas_tensor::{TensorError, TopK, kernels};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::PI;

/// What the media index refuses.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MediaError {
    /// A picture without any contrast: every hash of it is the same as that of any other such picture.
    #[error(
        "the picture is flat (luminance from {low:.1} to {high:.1}): its hash would match every other flat picture"
    )]
    Flat {
        /// Least luminance.
        low: f64,
        /// Greatest luminance.
        high: f64,
    },
    /// A video without frames.
    #[error("the video has no frames")]
    NoFrames,
    /// No asset has this id.
    #[error("no asset has id {0}")]
    Unknown(u64),
    /// A sound has no style and no picture hash.
    #[error("asset {0} is a sound: it has neither style nor picture hash")]
    NotAPicture(u64),
    /// A picture or sound is malformed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// An asset to index.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    /// A picture.
    Image(Image),
    /// Frames of a video, in order.
    Video(Vec<Image>),
    /// A sound.
    Audio {
        /// Amplitudes, one channel.
        samples: Vec<f32>,
        /// Samples a second.
        sample_rate: f64,
    },
}

/// Side of the grid of cells, and orientations a cell, of the content descriptor.
const CELLS: usize = 4;
const ORIENTATIONS: usize = 8;

/// Where which edges run, 128 numbers of unit length: the luminance is blurred (standard deviation 3 pixels, which takes
/// away the texture), cut into 4 by 4 cells, and each cell counts its gradients in 8 unsigned orientations weighted by
/// their strength; square root, unit length (after Dalal and Triggs 2005). A flat picture gives zeros.
pub fn content_descriptor(image: &Image) -> Result<Vec<f32>, MediaError> {
    let (dx, dy) = image.luminance().gaussian_blur(3.0)?.gradient();
    let (width, height) = (image.width(), image.height());
    let mut cells = vec![0.0f64; CELLS * CELLS * ORIENTATIONS];
    for y in 0..height {
        for x in 0..width {
            let (gx, gy) = (dx.at(x, y), dy.at(x, y));
            let strength = gx.hypot(gy);
            // Shared between the two nearest orientations, so that a small turn makes a small difference.
            let turn = gy.atan2(gx).rem_euclid(PI) / PI * ORIENTATIONS as f64;
            let (low, part) = (turn as usize, turn.fract());
            let cell = (y * CELLS / height * CELLS + x * CELLS / width) * ORIENTATIONS;
            cells[cell + low % ORIENTATIONS] += strength * (1.0 - part);
            cells[cell + (low + 1) % ORIENTATIONS] += strength * part;
        }
    }
    Ok(unit(cells.iter().map(|x| x.sqrt())))
}

/// Which textures and colours occur, wherever: 102 numbers of unit length. The upper triangle (78) of the Gram matrix of
/// 12 rectified Gabor responses (bars of 4, 7 and 11 pixels in 4 directions; Gatys et al. 2015 use a network's) and a
/// histogram of 8 levels of each colour (24), both as square roots and of equal weight.
pub fn style_descriptor(image: &Image) -> Result<Vec<f32>, MediaError> {
    let luminance = image.luminance();
    let rectify =
        |response: Plane| Plane::from_fn(response.width(), response.height(), |x, y| response.at(x, y).max(0.0));
    let responses: Vec<Plane> = Gabor::bank(&[4.0, 7.0, 11.0], 4)
        .par_iter()
        .map(|filter| filter.respond(&luminance).and_then(rectify))
        .collect::<Result<_, _>>()?;
    let mut colours = [0.0f64; 24];
    for pixel in image.rgb().chunks_exact(3) {
        for (channel, &value) in pixel.iter().enumerate() {
            colours[8 * channel + usize::from(value / 32)] += 1.0;
        }
    }
    let texture = unit(gram(&responses)?.iter().map(|x| x.sqrt()));
    let colour = unit(colours.iter().map(|x| x.sqrt()));
    Ok(unit(texture.iter().chain(&colour).map(|&x| f64::from(x))))
}

/// What a sound sounds like whatever its loudness: mean and deviation of 40 log-mel bands (frames of 256 samples), the
/// means less their own mean; 80 numbers of unit length.
pub fn audio_descriptor(samples: &[f32], sample_rate: f64) -> Result<Vec<f32>, MediaError> {
    let front_end = LogMel { sample_rate, n_fft: 256, hop: 128, bands: 40 };
    let features = front_end.features(samples)?;
    let (means, deviations) = features.split_at(40);
    let level = means.iter().sum::<f32>() / 40.0;
    let levelled = means.iter().map(|m| m - level).chain(deviations.iter().copied());
    Ok(unit(levelled.map(f64::from)))
}

fn unit(values: impl Iterator<Item = f64>) -> Vec<f32> {
    let values: Vec<f64> = values.collect();
    let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    values.iter().map(|x| (x * scale) as f32).collect()
}

/// Average hash: is each of 8 by 8 cells brighter than their mean? Row by row from the top bit. Any flat picture gives 0,
/// and pictures with their subject in the middle give much the same.
pub fn average_hash(luminance: &Plane) -> Result<u64, MediaError> {
    let cells = luminance.resize_box(8, 8)?;
    let mean = cells.values().iter().sum::<f64>() / 64.0;
    // Cells of one grey differ from their mean by rounding only.
    Ok(pack(cells.values().iter().map(|&cell| cell > mean + 1e-9)))
}

/// Difference hash: is each of 9 by 8 cells brighter than its left neighbour?
pub fn difference_hash(luminance: &Plane) -> Result<u64, MediaError> {
    let cells = luminance.resize_box(9, 8)?;
    let pairs = cells.values().chunks_exact(9).flat_map(|row| row.windows(2));
    Ok(pack(pairs.map(|pair| pair[1] > pair[0] + 1e-9)))
}

/// Perceptual hash: which of the 8 by 8 lowest cosine coefficients of the picture, shrunk to 32 by 32, lie above the median
/// of the 63 that aren't the mean? The bit of the mean is 0; row by row (vertical frequency) from the top bit.
///
/// The median makes it blind to brightness and contrast and, absent ties, sets 31 bits in every picture; inverting the
/// picture flips all bits but those of the mean and of the median itself.
pub fn perceptual_hash(luminance: &Plane) -> Result<u64, MediaError> {
    let coefficients = luminance.resize_box(32, 32)?.dct2();
    let low: Vec<f64> = (0..64).map(|i| coefficients.at(i % 8, i / 8)).collect();
    let mut sorted = low[1..].to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[31];
    Ok(pack(low.iter().enumerate().map(|(i, &c)| i > 0 && c > median)))
}

fn pack(bits: impl Iterator<Item = bool>) -> u64 {
    bits.fold(0, |hash, bit| hash << 1 | u64::from(bit))
}

/// An error for a picture whose luminance spans less than one grey level.
pub fn refuse_flat(luminance: &Plane) -> Result<(), MediaError> {
    let low = luminance.values().iter().copied().fold(f64::INFINITY, f64::min);
    let high = luminance.values().iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if high - low < 1.0 {
        return Err(MediaError::Flat { low, high });
    }
    Ok(())
}

/// Content, style and hash of one frame.
type Described = (Vec<f32>, Vec<f32>, u64);

/// Everything that the index keeps of an asset.
#[derive(Debug, Clone, PartialEq)]
pub struct Descriptors {
    /// Of pictures and videos (mean of the frames) the [`content_descriptor`], of sounds the [`audio_descriptor`].
    pub content: Vec<f32>,
    /// The [`style_descriptor`] (mean of the frames); `None` for a sound.
    pub style: Option<Vec<f32>>,
    /// The [`perceptual_hash`] of each frame; none for a sound.
    pub hashes: Vec<u64>,
}

impl Descriptors {
    /// Describes an asset; an error for flat pictures, videos without frames and malformed sounds.
    pub fn of(media: &Media) -> Result<Self, MediaError> {
        match media {
            Media::Image(image) => Self::of_frames(std::slice::from_ref(image)),
            Media::Video(frames) => Self::of_frames(frames),
            Media::Audio { samples, sample_rate } => {
                Ok(Self { content: audio_descriptor(samples, *sample_rate)?, style: None, hashes: Vec::new() })
            }
        }
    }

    fn of_frames(frames: &[Image]) -> Result<Self, MediaError> {
        let describe = |frame: &Image| {
            let luminance = frame.luminance();
            refuse_flat(&luminance)?;
            Ok((content_descriptor(frame)?, style_descriptor(frame)?, perceptual_hash(&luminance)?))
        };
        let described = frames.iter().map(describe).collect::<Result<Vec<_>, MediaError>>()?;
        let Some((content, style, _)) = described.first() else {
            return Err(MediaError::NoFrames);
        };
        let mean = |dim: usize, pick: fn(&Described) -> &Vec<f32>| {
            unit((0..dim).map(|d| described.iter().map(|frame| f64::from(pick(frame)[d])).sum()))
        };
        Ok(Self {
            content: mean(content.len(), |frame| &frame.0),
            style: Some(mean(style.len(), |frame| &frame.1)),
            hashes: described.iter().map(|frame| frame.2).collect(),
        })
    }

    fn is_sound(&self) -> bool {
        self.style.is_none()
    }
}

/// An asset and its cosine to the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MediaHit {
    /// The asset.
    pub id: u64,
    /// Cosine of the descriptors.
    pub score: f32,
}

/// A near-duplicate and the least distance between a frame of it and one of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// The asset.
    pub id: u64,
    /// Differing bits of 64.
    pub distance: u32,
}

/// The nearest neighbours of one asset in each sense of similar.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// By content.
    pub content: Vec<MediaHit>,
    /// By style.
    pub style: Vec<MediaHit>,
    /// Near-duplicates within [`MediaIndex::RADIUS`].
    pub duplicates: Vec<Duplicate>,
}

/// Assets with their descriptors. Pictures and videos are compared with each other, sounds with sounds.
#[derive(Debug, Clone, Default)]
pub struct MediaIndex {
    /// Descriptors of each slot; an asset that was replaced leaves a dead slot behind in the tree.
    slots: Vec<(u64, Descriptors)>,
    slot_of: BTreeMap<u64, usize>,
    hashes: BkTree,
}

impl MediaIndex {
    /// The radius at which a copy is called a near-duplicate.
    pub const RADIUS: u32 = 10;

    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an asset, or replaces the one with this id. Nothing changes when it is refused.
    pub fn insert(&mut self, id: u64, media: &Media) -> Result<(), MediaError> {
        let descriptors = Descriptors::of(media)?;
        self.store(id, descriptors);
        Ok(())
    }

    /// [`MediaIndex::insert`] for many assets, described in parallel. When one is refused none is added.
    pub fn insert_all(&mut self, assets: &[(u64, Media)]) -> Result<(), MediaError> {
        let described: Vec<Descriptors> =
            assets.par_iter().map(|(_, media)| Descriptors::of(media)).collect::<Result<_, _>>()?;
        for ((id, _), descriptors) in assets.iter().zip(described) {
            self.store(*id, descriptors);
        }
        Ok(())
    }

    fn store(&mut self, id: u64, descriptors: Descriptors) {
        let slot = self.slots.len();
        for &hash in &descriptors.hashes {
            self.hashes.insert(hash, slot);
        }
        self.slots.push((id, descriptors));
        self.slot_of.insert(id, slot);
    }

    /// Number of assets.
    pub fn len(&self) -> usize {
        self.slot_of.len()
    }

    /// True when there are no assets.
    pub fn is_empty(&self) -> bool {
        self.slot_of.is_empty()
    }

    /// The descriptors of an asset.
    pub fn get(&self, id: u64) -> Result<&Descriptors, MediaError> {
        let slot = self.slot_of.get(&id).ok_or(MediaError::Unknown(id))?;
        Ok(&self.slots[*slot].1)
    }

    /// The `k` assets nearest to `query` by content, best first, ties by lower id.
    pub fn search_content(&self, query: &Descriptors, k: usize) -> Vec<MediaHit> {
        let comparable =
            |d: &Descriptors| (d.is_sound() == query.is_sound()).then(|| kernels::dot(&d.content, &query.content));
        self.search(k, comparable)
    }

    /// The `k` pictures and videos nearest to `query` by style; none when the query is a sound.
    pub fn search_style(&self, query: &Descriptors, k: usize) -> Vec<MediaHit> {
        let Some(style) = &query.style else {
            return Vec::new();
        };
        self.search(k, |d| d.style.as_ref().map(|own| kernels::dot(own, style)))
    }

    fn search(&self, k: usize, score: impl Fn(&Descriptors) -> Option<f32>) -> Vec<MediaHit> {
        let mut best = TopK::new(k);
        // Positions in the order of ids, so that ties go to the lower id.
        let ids: Vec<(&u64, &usize)> = self.slot_of.iter().collect();
        for (at, (_, slot)) in ids.iter().enumerate() {
            if let Some(score) = score(&self.slots[**slot].1) {
                best.push(at, score);
            }
        }
        let hit = |scored: eas_tensor::Scored| MediaHit { id: *ids[scored.id].0, score: scored.score };
        best.into_sorted_vec().into_iter().map(hit).collect()
    }

    /// The other assets of which a frame is within `radius` bits of a frame of asset `id`, nearest first.
    pub fn duplicates(&self, id: u64, radius: u32) -> Result<Vec<Duplicate>, MediaError> {
        let descriptors = self.get(id)?;
        if descriptors.is_sound() {
            return Err(MediaError::NotAPicture(id));
        }
        let mut nearest: BTreeMap<u64, u32> = BTreeMap::new();
        for &hash in &descriptors.hashes {
            for (distance, slot) in self.hashes.within(hash, radius).hits {
                let other = self.slots[slot].0;
                let alive = self.slot_of.get(&other) == Some(&slot);
                if alive && other != id {
                    let least = nearest.entry(other).or_insert(distance);
                    *least = distance.min(*least);
                }
            }
        }
        let sorted: BTreeSet<(u32, u64)> = nearest.into_iter().map(|(other, distance)| (distance, other)).collect();
        Ok(sorted.into_iter().map(|(distance, id)| Duplicate { id, distance }).collect())
    }

    /// The `k` other assets nearest to asset `id` in each sense.
    pub fn describe(&self, id: u64, k: usize) -> Result<Neighbours, MediaError> {
        let own = self.get(id)?;
        let others = |hits: Vec<MediaHit>| hits.into_iter().filter(|hit| hit.id != id).take(k).collect();
        Ok(Neighbours {
            content: others(self.search_content(own, k + 1)),
            style: others(self.search_style(own, k + 1)),
            duplicates: if own.is_sound() { Vec::new() } else { self.duplicates(id, Self::RADIUS)? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_data::synth::media::{Edit, pictures};
    use eas_tensor::rng::SplitMix64;

    fn fixture() -> Plane {
        Plane::from_fn(32, 32, |x, y| {
            let (x, y) = (x as f64, y as f64);
            127.5 + 40.0 * (0.3 * x + 0.2).sin() + 30.0 * (0.5 * y + 0.1 * x).cos() + 20.0 * (x * y / 80.0 + 0.7).sin()
        })
        .unwrap()
    }

    fn mapped(f: impl Fn(usize, usize) -> f64) -> u64 {
        perceptual_hash(&Plane::from_fn(32, 32, f).unwrap()).unwrap()
    }

    #[test]
    fn hashes_of_the_fixture() {
        let plane = fixture();
        let hash = perceptual_hash(&plane).unwrap();
        assert_eq!(hash, 0x70cf_1aa5_6ad5_8117);
        assert_eq!(hash.count_ones(), 31);
        assert_eq!(mapped(|x, y| 0.6 * plane.at(x, y) + 30.0), hash);
        assert_eq!((mapped(|x, y| plane.at(31 - x, y)) ^ hash).count_ones(), 30);
        assert_eq!((mapped(|x, y| plane.at(y, x)) ^ hash).count_ones(), 14);
        assert_eq!((mapped(|x, y| 255.0 - plane.at(x, y)) ^ hash).count_ones(), 62);
        assert_eq!(average_hash(&plane).unwrap(), 0xe2c7_e6e0_c3e7_c6c6);
    }

    #[test]
    fn difference_hash_compares_neighbours() {
        let ramp = Plane::from_fn(18, 16, |x, _| x as f64).unwrap();
        assert_eq!(difference_hash(&ramp).unwrap(), u64::MAX);
        let falling = Plane::from_fn(18, 16, |x, _| -(x as f64)).unwrap();
        assert_eq!(difference_hash(&falling).unwrap(), 0);
    }

    #[test]
    fn flat_pictures_share_one_hash_and_are_refused() {
        for value in [0.0, 17.3, 255.0] {
            let flat = Plane::new(64, 64, vec![value; 4096]).unwrap();
            assert_eq!(average_hash(&flat).unwrap(), 0);
            assert!(refuse_flat(&flat).unwrap_err().to_string().contains("flat"));
        }
        let mut index = MediaIndex::new();
        let orange = Image::new(8, 8, [255, 165, 0].repeat(64)).unwrap();
        assert!(matches!(index.insert(1, &Media::Image(orange)), Err(MediaError::Flat { .. })));
        assert!(index.is_empty());
    }

    #[test]
    fn descriptors_have_their_stated_size_and_unit_length() {
        for picture in pictures(1, 3).unwrap().iter().step_by(4) {
            for (descriptor, dim) in
                [(content_descriptor(&picture.image).unwrap(), 128), (style_descriptor(&picture.image).unwrap(), 102)]
            {
                assert_eq!(descriptor.len(), dim);
                assert!((kernels::norm(&descriptor) - 1.0).abs() < 1e-5);
            }
        }
        let sound: Vec<f32> = (0..4_000).map(|i| (0.3 * i as f32).sin()).collect();
        let quiet: Vec<f32> = sound.iter().map(|x| 0.1 * x).collect();
        let (a, b) = (audio_descriptor(&sound, 8e3).unwrap(), audio_descriptor(&quiet, 8e3).unwrap());
        assert_eq!(a.len(), 80);
        assert!(kernels::cosine(&a, &b) > 0.99);
    }

    #[test]
    fn assets_are_replaced_by_id_and_kinds_do_not_mix() {
        let set = pictures(1, 9).unwrap();
        let image = |i: usize| Media::Image(set[i].image.clone());
        let mut rng = SplitMix64::new(1);
        let mut hiss =
            || Media::Audio { samples: (0..2_000).map(|_| rng.normal() as f32).collect(), sample_rate: 8_000.0 };
        let mut index = MediaIndex::new();
        let assets = vec![(7, image(0)), (3, image(6)), (9, hiss()), (10, hiss())];
        index.insert_all(&assets).unwrap();
        index.insert(7, &image(0)).unwrap();
        assert_eq!(index.len(), 4);
        let ids = |hits: Vec<MediaHit>| hits.iter().map(|h| h.id).collect::<Vec<_>>();
        assert_eq!(ids(index.search_content(index.get(7).unwrap(), 10)), [7, 3]);
        assert_eq!(ids(index.search_content(index.get(9).unwrap(), 10)), [9, 10]);
        assert_eq!(ids(index.search_style(index.get(7).unwrap(), 1)), [7]);
        assert!(index.search_style(index.get(9).unwrap(), 3).is_empty());
        assert!(index.search_content(index.get(7).unwrap(), 0).is_empty());

        // The replaced picture of id 3 is gone for duplicate search as well.
        index.insert(3, &image(0)).unwrap();
        assert_eq!(index.duplicates(7, 0).unwrap(), [Duplicate { id: 3, distance: 0 }]);
        index.insert(3, &image(6)).unwrap();
        assert_eq!(index.duplicates(7, 0).unwrap(), []);
        assert_eq!(index.duplicates(9, 3), Err(MediaError::NotAPicture(9)));
        assert_eq!(index.duplicates(4, 3), Err(MediaError::Unknown(4)));
        let near = index.describe(7, 1).unwrap();
        assert_eq!((ids(near.content), ids(near.style)), (vec![3], vec![3]));
    }

    #[test]
    fn a_video_is_found_by_any_of_its_frames() {
        let set = pictures(1, 9).unwrap();
        let frames = vec![set[0].image.clone(), set[6].image.clone(), set[13].image.clone()];
        let copy = Edit::Brightness.apply(&frames[1], 1).unwrap();
        let mut index = MediaIndex::new();
        index.insert(1, &Media::Video(frames)).unwrap();
        index.insert(2, &Media::Image(copy)).unwrap();
        let found = index.duplicates(2, 10).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id, 1);
        assert_eq!(index.insert(5, &Media::Video(vec![])), Err(MediaError::NoFrames));
        let broken = Media::Audio { samples: vec![f32::NAN], sample_rate: 8_000.0 };
        assert!(index.insert(6, &broken).is_err());
        assert_eq!(index.len(), 2);
    }
}
