//! The layers that the small encoders are built from: linear, convolution and max-pooling by gathering patches.

use candle_core::{D, Tensor, Var};

use crate::fused;
use crate::params::Parameters;
use crate::{Mode, NnError, Precision};

/// `x W^T + b`, weights uniform in `+-1/sqrt(inputs)` as PyTorch starts them.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Var,
    bias: Var,
}

impl Linear {
    /// A layer from `inputs` to `outputs` values, named `name.weight` and `name.bias` in `params`.
    pub fn new(params: &mut Parameters, name: &str, inputs: usize, outputs: usize) -> Result<Self, NnError> {
        if inputs == 0 || outputs == 0 {
            return Err(NnError::Argument {
                name: "layer width",
                got: format!("{inputs} -> {outputs}"),
                expected: "at least 1 on both sides".to_owned(),
            });
        }
        let bound = 1.0 / (inputs as f64).sqrt();
        Ok(Self {
            weight: params.uniform(&format!("{name}.weight"), &[outputs, inputs], bound)?,
            bias: params.uniform(&format!("{name}.bias"), &[outputs], bound)?,
        })
    }

    /// Width of the input.
    pub fn inputs(&self) -> usize {
        self.weight.dims()[1]
    }

    /// Width of the output.
    pub fn outputs(&self) -> usize {
        self.weight.dims()[0]
    }

    /// `(batch, inputs)` to `(batch, outputs)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        match x.dims() {
            [_, width] if *width == self.inputs() => self.product(x, Precision::F32),
            other => Err(NnError::Shape {
                what: "linear layer".to_owned(),
                expected: format!("(batch, {})", self.inputs()),
                got: other.to_vec(),
            }),
        }
    }

    /// `(..., inputs)` to `(..., outputs)`, the product in the precision of `mode`.
    pub fn forward_in(&self, x: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let Some((&width, leading)) = x.dims().split_last().filter(|(width, _)| **width == self.inputs()) else {
            return Err(NnError::Shape {
                what: "linear layer".to_owned(),
                expected: format!("(..., {})", self.inputs()),
                got: x.dims().to_vec(),
            });
        };
        let mut shape = leading.to_vec();
        shape.push(self.outputs());
        let out = self.product(&x.reshape(((), width))?, mode.precision())?;
        Ok(out.reshape(shape)?)
    }

    fn product(&self, rows: &Tensor, precision: Precision) -> Result<Tensor, NnError> {
        if precision == Precision::F32 && fused::serves(&[rows, &self.weight, &self.bias]) {
            return Ok(fused::linear(rows, &self.weight, &self.bias)?);
        }
        Ok(precision.matmul(rows, &self.weight.t()?)?.broadcast_add(&self.bias)?)
    }

    /// Weight and bias.
    pub(crate) fn tensors(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }
}

/// Scales each row of `(batch, dim)` to unit Euclidean length; a row of zeros stays zero.
pub fn l2_normalize(x: &Tensor) -> Result<Tensor, NnError> {
    if x.rank() > 0 && fused::serves(&[x]) {
        return Ok(fused::unit_rows(x)?);
    }
    let norm = (x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
    Ok(x.broadcast_div(&norm)?)
}

/// Height, width and channels of an image stored row by row with the channels of a pixel together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageShape {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Values of a pixel.
    pub channels: usize,
}

impl ImageShape {
    fn pixels(self) -> usize {
        self.height * self.width
    }

    fn check(self, what: &str, x: &Tensor) -> Result<(), NnError> {
        if x.rank() == 3 && x.dims()[1..] == [self.pixels(), self.channels] {
            return Ok(());
        }
        Err(NnError::Shape {
            what: what.to_owned(),
            expected: format!("(batch, {}, {})", self.pixels(), self.channels),
            got: x.dims().to_vec(),
        })
    }
}

/// 3 x 3 convolution with zero padding of 1.
///
/// The patches are gathered into rows by one index table, made once, and multiplied with the weights: on a CPU this is one large
/// matrix product instead of many small ones.
#[derive(Debug, Clone)]
pub struct Conv3x3 {
    input: ImageShape,
    output: ImageShape,
    patches: Tensor,
    linear: Linear,
}

impl Conv3x3 {
    /// A convolution of `input` to `channels` channels that moves `stride` pixels a step.
    pub fn new(
        params: &mut Parameters,
        name: &str,
        input: ImageShape,
        channels: usize,
        stride: usize,
    ) -> Result<Self, NnError> {
        if stride == 0 || input.pixels() == 0 {
            return Err(NnError::Argument {
                name: "convolution",
                got: format!("stride {stride} over {} x {} pixels", input.height, input.width),
                expected: "a stride of at least 1 and at least one pixel".to_owned(),
            });
        }
        let output =
            ImageShape { height: (input.height - 1) / stride + 1, width: (input.width - 1) / stride + 1, channels };
        // One pixel of zeros behind the image stands for everything outside it.
        let outside = input.pixels() as u32;
        let mut patches = Vec::with_capacity(output.pixels() * 9);
        for y in 0..output.height {
            for x in 0..output.width {
                for (dy, dx) in (0..3).flat_map(|dy| (0..3).map(move |dx| (dy, dx))) {
                    // Shifted by the padding: row `top - 1` of the image.
                    let (top, left) = (y * stride + dy, x * stride + dx);
                    let inside = (1..=input.height).contains(&top) && (1..=input.width).contains(&left);
                    patches.push(if inside { ((top - 1) * input.width + left - 1) as u32 } else { outside });
                }
            }
        }
        Ok(Self {
            input,
            output,
            patches: Tensor::new(patches, params.device())?,
            linear: Linear::new(params, name, 9 * input.channels, channels)?,
        })
    }

    /// The shape of what comes out.
    pub fn output(&self) -> ImageShape {
        self.output
    }

    /// `(batch, pixels, channels)` to the same of [`Conv3x3::output`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        self.input.check("convolution", x)?;
        let batch = x.dim(0)?;
        let padded = x.pad_with_zeros(1, 0, 1)?;
        let rows =
            padded.index_select(&self.patches, 1)?.reshape((batch * self.output.pixels(), 9 * self.input.channels))?;
        let out = self.linear.forward(&rows)?;
        Ok(out.reshape((batch, self.output.pixels(), self.output.channels))?)
    }
}

/// 2 x 2 max-pooling with stride 2; an odd last row or column is left out.
#[derive(Debug, Clone)]
pub struct MaxPool2x2 {
    input: ImageShape,
    output: ImageShape,
    patches: Tensor,
}

impl MaxPool2x2 {
    /// Pooling of images of shape `input`, at least 2 x 2 pixels.
    pub fn new(params: &Parameters, input: ImageShape) -> Result<Self, NnError> {
        let output = ImageShape { height: input.height / 2, width: input.width / 2, ..input };
        if output.pixels() == 0 {
            return Err(NnError::Argument {
                name: "pooling",
                got: format!("{} x {} pixels", input.height, input.width),
                expected: "at least 2 x 2".to_owned(),
            });
        }
        let mut patches = Vec::with_capacity(output.pixels() * 4);
        for (y, x) in (0..output.height).flat_map(|y| (0..output.width).map(move |x| (y, x))) {
            let first = (2 * y * input.width + 2 * x) as u32;
            let below = first + input.width as u32;
            patches.extend([first, first + 1, below, below + 1]);
        }
        Ok(Self { input, output, patches: Tensor::new(patches, params.device())? })
    }

    /// The shape of what comes out.
    pub fn output(&self) -> ImageShape {
        self.output
    }

    /// `(batch, pixels, channels)` to the same of [`MaxPool2x2::output`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        self.input.check("max-pooling", x)?;
        let (batch, _, channels) = x.dims3()?;
        let windows = x.index_select(&self.patches, 1)?.reshape((batch, self.output.pixels(), 4, channels))?;
        Ok(windows.max(2)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use eas_tensor::rng::SplitMix64;

    fn image(shape: ImageShape, batch: usize, seed: u64) -> Tensor {
        let mut rng = SplitMix64::new(seed);
        let n = batch * shape.pixels() * shape.channels;
        let values: Vec<f32> = (0..n).map(|_| rng.normal() as f32).collect();
        Tensor::from_vec(values, (batch, shape.pixels(), shape.channels), &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// `(batch, pixels, channels)` to candle's `(batch, channels, height, width)`.
    fn channels_first(x: &Tensor, shape: ImageShape) -> Tensor {
        x.transpose(1, 2)
            .unwrap()
            .contiguous()
            .unwrap()
            .reshape((x.dim(0).unwrap(), shape.channels, shape.height, shape.width))
            .unwrap()
    }

    fn assert_close(left: &[f32], right: &[f32]) {
        assert_eq!(left.len(), right.len());
        for (l, r) in left.iter().zip(right) {
            assert!((l - r).abs() < 1e-4, "{l} differs from {r}");
        }
    }

    #[test]
    fn convolution_and_its_gradient_equal_candles() {
        for (stride, height, width) in [(1, 5, 4), (2, 6, 4), (2, 5, 7)] {
            let shape = ImageShape { height, width, channels: 3 };
            let mut params = Parameters::new(3, &Device::Cpu);
            let conv = Conv3x3::new(&mut params, "conv", shape, 4, stride).unwrap();
            let x = Var::from_tensor(&image(shape, 2, 1)).unwrap();
            let ours = conv.forward(&x).unwrap();

            // Our weight columns run kernel row, kernel column, channel.
            let weight = conv.linear.weight.reshape((4, 3, 3, 3)).unwrap().permute((0, 3, 1, 2)).unwrap();
            let input = channels_first(&x, shape);
            let theirs = input
                .conv2d(&weight.contiguous().unwrap(), 1, stride, 1, 1)
                .unwrap()
                .broadcast_add(&conv.linear.bias.reshape((1, 4, 1, 1)).unwrap())
                .unwrap();
            let theirs_last = theirs.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
            assert_eq!(theirs_last.dims()[1..3], [conv.output().height, conv.output().width]);
            assert_close(&values(&ours), &values(&theirs_last));

            // Candle 0.11 can't differentiate a strided convolution of an odd width.
            if stride == 2 && width % 2 == 1 {
                continue;
            }
            let our_grads = ours.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let their_grads = theirs.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            for var in params.vars().iter().chain([&x]) {
                assert_close(&values(our_grads.get(var).unwrap()), &values(their_grads.get(var).unwrap()));
            }
        }
    }

    #[test]
    fn pooling_takes_the_largest_of_each_window_and_passes_the_gradient_to_it() {
        let shape = ImageShape { height: 4, width: 5, channels: 2 };
        let params = Parameters::new(1, &Device::Cpu);
        let pool = MaxPool2x2::new(&params, shape).unwrap();
        let x = Var::from_tensor(&image(shape, 3, 2)).unwrap();
        let ours = pool.forward(&x).unwrap();
        let theirs = channels_first(&x, shape).max_pool2d(2).unwrap();
        let theirs_last = theirs.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
        assert_eq!(values(&ours), values(&theirs_last));

        let grads = ours.sum_all().unwrap().backward().unwrap();
        let gradient = values(grads.get(&x).unwrap());
        assert_eq!(gradient.iter().sum::<f32>(), ours.elem_count() as f32);
        assert!(gradient.iter().all(|&g| g == 0.0 || g == 1.0));
    }

    #[test]
    fn normalized_rows_have_length_one_and_zero_rows_stay() {
        let x = Tensor::new(&[[3f32, 4.0], [0.0, 0.0]], &Device::Cpu).unwrap();
        assert_close(&values(&l2_normalize(&x).unwrap()), &[0.6, 0.8, 0.0, 0.0]);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let shape = ImageShape { height: 4, width: 4, channels: 3 };
        let linear = Linear::new(&mut params, "linear", 3, 2).unwrap();
        let conv = Conv3x3::new(&mut params, "conv", shape, 4, 2).unwrap();
        let x = image(ImageShape { height: 3, width: 4, channels: 3 }, 1, 1);
        assert!(matches!(linear.forward(&x), Err(NnError::Shape { .. })));
        assert!(matches!(conv.forward(&x), Err(NnError::Shape { .. })));
        assert!(Conv3x3::new(&mut params, "none", shape, 4, 0).is_err());
        assert!(Linear::new(&mut params, "empty", 0, 4).is_err());
        let thin = ImageShape { height: 1, width: 4, channels: 3 };
        assert!(MaxPool2x2::new(&params, thin).is_err());
    }
}
