//! The assignment problem: one distinct column for each row at least total cost (Kuhn 1955; the shortest augmenting path
//! form of Jonker and Volgenant 1987).

use crate::TensorError;

/// The column assigned to each row of `costs`, all distinct, such that the sum of their costs is least. There must be at
/// least as many columns as rows; to maximise, negate. `O(rows^2 * columns)`.
///
/// ```
/// use eas_tensor::assign::hungarian;
///
/// let columns = hungarian(&[vec![4.0, 1.0, 3.0], vec![2.0, 0.0, 5.0], vec![3.0, 2.0, 2.0]])?;
/// assert_eq!(columns, [1, 0, 2]);
/// # Ok::<(), eas_tensor::TensorError>(())
/// ```
pub fn hungarian(costs: &[Vec<f64>]) -> Result<Vec<usize>, TensorError> {
    let rows = costs.len();
    let columns = costs.first().map_or(0, Vec::len);
    for row in costs {
        if row.len() != columns {
            return Err(TensorError::Dimension { expected: columns, got: row.len() });
        }
        if let Some(cost) = row.iter().find(|c| !c.is_finite()) {
            return Err(TensorError::argument("cost", cost, "finite"));
        }
    }
    if columns < rows {
        let expected = format!("at least the number of rows, {rows}");
        return Err(TensorError::argument("number of columns", &columns, expected));
    }

    // Potentials keep every reduced cost `cost - row_potential - column_potential` non-negative, and zero on the
    // assigned pairs. Column `columns` is the virtual start of the augmenting path.
    let mut row_potential = vec![0.0; rows];
    let mut column_potential = vec![0.0; columns + 1];
    let mut row_of: Vec<Option<usize>> = vec![None; columns + 1];
    for new_row in 0..rows {
        row_of[columns] = Some(new_row);
        let mut at = columns;
        let mut distance = vec![f64::INFINITY; columns];
        let mut previous = vec![columns; columns];
        let mut done = vec![false; columns + 1];
        while let Some(row) = row_of[at] {
            done[at] = true;
            let (mut nearest, mut delta) = (columns, f64::INFINITY);
            for column in 0..columns {
                if done[column] {
                    continue;
                }
                let reduced = costs[row][column] - row_potential[row] - column_potential[column];
                if reduced < distance[column] {
                    distance[column] = reduced;
                    previous[column] = at;
                }
                if distance[column] < delta {
                    delta = distance[column];
                    nearest = column;
                }
            }
            for column in 0..=columns {
                match row_of[column] {
                    Some(assigned) if done[column] => {
                        row_potential[assigned] += delta;
                        column_potential[column] -= delta;
                    }
                    _ if column < columns => distance[column] -= delta,
                    _ => {}
                }
            }
            at = nearest;
        }
        while at != columns {
            let before = previous[at];
            row_of[at] = row_of[before];
            at = before;
        }
    }

    let mut column_of = vec![0; rows];
    for (column, row) in row_of.iter().take(columns).enumerate() {
        if let Some(row) = row {
            column_of[*row] = column;
        }
    }
    Ok(column_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn total(costs: &[Vec<f64>], columns: &[usize]) -> f64 {
        costs.iter().zip(columns).map(|(row, &c)| row[c]).sum()
    }

    /// Least total over every injective choice of columns.
    fn brute_force(costs: &[Vec<f64>], used: &mut Vec<bool>) -> f64 {
        let Some((row, rest)) = costs.split_first() else {
            return 0.0;
        };
        let mut best = f64::INFINITY;
        for column in 0..row.len() {
            if !used[column] {
                used[column] = true;
                best = best.min(row[column] + brute_force(rest, used));
                used[column] = false;
            }
        }
        best
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn is_as_cheap_as_the_best_of_all(
            (rows, columns) in (1usize..6).prop_flat_map(|r| (Just(r), r..7)),
            values in prop::collection::vec(prop_oneof![-9.0f64..9.0, (0i32..4).prop_map(f64::from)], 42)
        ) {
            let costs: Vec<Vec<f64>> = (0..rows).map(|r| values[r * 7..r * 7 + columns].to_vec()).collect();
            let got = hungarian(&costs).unwrap();
            let mut distinct = got.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), rows);
            let best = brute_force(&costs, &mut vec![false; columns]);
            prop_assert!((total(&costs, &got) - best).abs() < 1e-9);
        }
    }

    #[test]
    fn a_planted_permutation_of_a_large_matrix_is_found() {
        let n = 60;
        let mut rng = crate::rng::SplitMix64::new(1);
        let mut planted: Vec<usize> = (0..n).collect();
        rng.shuffle(&mut planted);
        let costs: Vec<Vec<f64>> = (0..n)
            .map(|r| (0..n).map(|c| if planted[r] == c { rng.uniform() } else { 2.0 + rng.uniform() }).collect())
            .collect();
        assert_eq!(hungarian(&costs).unwrap(), planted);
    }

    #[test]
    fn bad_shapes_and_values_are_refused() {
        assert_eq!(hungarian(&[]), Ok(vec![]));
        assert!(hungarian(&[vec![1.0], vec![2.0]]).is_err());
        assert!(hungarian(&[vec![1.0, 2.0], vec![2.0]]).is_err());
        assert!(hungarian(&[vec![1.0, f64::NAN]]).is_err());
    }
}
