//! Small labelled tables: handwritten digits, iris, wine and breast cancer from the UCI repository, and the diabetes regression data.
//!
//! Features are raw, as published: nothing is scaled. Row order is that of scikit-learn's loaders.

use crate::DataError;
use crate::table::Table;
use eas_tensor::Matrix;

/// A classification table.
#[derive(Debug, Clone)]
pub struct Labelled {
    /// Shape `(rows, features)`.
    pub features: Matrix,
    /// Class of each row, an index into `class_names`.
    pub labels: Vec<usize>,
    /// Names of the columns.
    pub feature_names: Vec<String>,
    /// Names of the classes.
    pub class_names: Vec<String>,
}

/// A regression table.
#[derive(Debug, Clone)]
pub struct Regression {
    /// Shape `(rows, features)`.
    pub features: Matrix,
    /// Value to predict for each row.
    pub targets: Vec<f32>,
    /// Names of the columns.
    pub feature_names: Vec<String>,
}

/// 1,797 handwritten digits, 8 x 8 pixels of 0 to 16 each, row-major; 10 classes.
pub fn digits() -> Result<Labelled, DataError> {
    labelled("uci/digits.csv.gz")
}

/// 150 iris flowers: sepal and petal length and width in cm; 3 species.
pub fn iris() -> Result<Labelled, DataError> {
    labelled("uci/iris.csv.gz")
}

/// 178 wines: 13 chemical measurements; 3 cultivars.
pub fn wine() -> Result<Labelled, DataError> {
    labelled("uci/wine.csv.gz")
}

/// 569 biopsies: 30 measurements of cell nuclei; class 0 malignant, 1 benign.
pub fn breast_cancer() -> Result<Labelled, DataError> {
    labelled("uci/breast_cancer.csv.gz")
}

/// 442 patients: age in years, sex (1 or 2), body-mass index, blood pressure and six serum values, against a measure of disease
/// progression one year later. Efron et al., "Least Angle Regression" (2004).
pub fn diabetes() -> Result<Regression, DataError> {
    let table = Table::open("uci/diabetes.csv.gz")?;
    let (features, targets) = features_and_last(&table)?;
    Ok(Regression {
        features,
        targets: targets.iter().map(|cell| table.number(cell)).collect::<Result<_, _>>()?,
        feature_names: table.header[..table.header.len() - 1].to_vec(),
    })
}

fn labelled(name: &'static str) -> Result<Labelled, DataError> {
    let table = Table::open(name)?;
    let (last, names) = table.header.split_last().ok_or_else(|| table.error("no columns".to_owned()))?;
    let classes: Vec<String> = last
        .strip_prefix("class=")
        .ok_or_else(|| table.error(format!("last column is {last:?}, `class=...` expected")))?
        .split('|')
        .map(str::to_owned)
        .collect();
    let (features, cells) = features_and_last(&table)?;
    let labels = cells.iter().map(|cell| table.number::<usize>(cell)).collect::<Result<Vec<_>, _>>()?;
    if let Some(label) = labels.iter().find(|&&label| label >= classes.len()) {
        return Err(table.error(format!("class {label} of {}", classes.len())));
    }
    Ok(Labelled { features, labels, feature_names: names.to_vec(), class_names: classes })
}

fn features_and_last(table: &Table) -> Result<(Matrix, Vec<&str>), DataError> {
    let dim = table.header.len() - 1;
    let mut values = Vec::with_capacity(dim * table.rows.len());
    let mut last = Vec::with_capacity(table.rows.len());
    for row in &table.rows {
        for cell in &row[..dim] {
            values.push(table.number::<f32>(cell)?);
        }
        last.push(row[dim].as_str());
    }
    let features = Matrix::from_vec(table.rows.len(), dim, values).map_err(|error| table.error(error.to_string()))?;
    Ok((features, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(features: &Matrix) -> f64 {
        features.as_slice().iter().map(|&x| f64::from(x)).sum()
    }

    fn sizes(data: &Labelled) -> Vec<usize> {
        let mut sizes = vec![0; data.class_names.len()];
        for &label in &data.labels {
            sizes[label] += 1;
        }
        sizes
    }

    /// Shapes, class sizes and the sum of all features as scikit-learn's own loaders give them.
    #[test]
    fn tables_equal_those_of_scikit_learn() {
        let cases = [
            (digits(), 64, 561_718.0, vec![178, 182, 177, 183, 181, 182, 181, 179, 174, 180]),
            (iris(), 4, 2_078.7, vec![50, 50, 50]),
            (wine(), 13, 159_975.295_999, vec![59, 71, 48]),
            (breast_cancer(), 30, 1_056_474.459_635_6, vec![212, 357]),
        ];
        for (data, dim, sum, classes) in cases {
            let data = data.unwrap();
            assert_eq!(data.features.dim(), dim);
            assert_eq!(data.feature_names.len(), dim);
            assert_eq!(data.features.rows(), data.labels.len());
            assert_eq!(sizes(&data), classes);
            assert!((total(&data.features) / sum - 1.0).abs() < 1e-7);
        }
        assert_eq!(breast_cancer().unwrap().class_names, ["malignant", "benign"]);
        assert_eq!(iris().unwrap().features.row(0), [5.1, 3.5, 1.4, 0.2]);
        let diabetes = diabetes().unwrap();
        assert_eq!((diabetes.features.rows(), diabetes.features.dim()), (442, 10));
        assert!((total(&diabetes.features) - 276_404.233_6).abs() < 0.1);
        assert_eq!(diabetes.targets.iter().sum::<f32>(), 67_243.0);
    }
}
