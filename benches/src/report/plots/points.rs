//! Thins out what has more points than a plot has pixels.

use super::canvas::Point;

/// Two for each pixel across: more cannot be seen, and a day of seconds would make a page of megabytes.
const MOST: usize = 1400;

/// The points, or so many of them that every dip and every peak is still there.
pub fn thin(points: Vec<Point>) -> Vec<Point> {
    if points.len() <= MOST {
        return points;
    }
    let each = points.len().div_ceil(MOST / 2);
    points.chunks(each).flat_map(extremes).collect()
}

/// The lowest and the highest of them, in the order in which they come.
fn extremes(chunk: &[Point]) -> Vec<Point> {
    let by_height = |a: &(usize, &Point), b: &(usize, &Point)| a.1.1.total_cmp(&b.1.1);
    let lowest = chunk.iter().enumerate().min_by(by_height);
    let highest = chunk.iter().enumerate().max_by(by_height);
    let mut both: Vec<(usize, &Point)> = lowest.into_iter().chain(highest).collect();
    both.sort_by_key(|(index, _)| *index);
    both.dedup_by_key(|(index, _)| *index);
    both.into_iter().map(|(_, point)| *point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_dip_among_many_survives() {
        let points: Vec<Point> = (0..100_000).map(|n| (f64::from(n), if n == 54_321 { 3.0 } else { 100.0 })).collect();
        let thinned = thin(points);
        assert!(thinned.len() <= MOST, "{}", thinned.len());
        assert!(thinned.contains(&(54_321.0, 3.0)));
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn few_stay_as_they_are() {
        assert_eq!(thin(vec![(0.0, 1.0), (1.0, 2.0)]), [(0.0, 1.0), (1.0, 2.0)]);
    }
}
