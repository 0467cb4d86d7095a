//! Cost against size: how what is measured grows, over some decades, and whether that is as
//! it should be.

use super::{Row, Unit};

/// How cost is to grow with size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Not at all.
    Constant,
    /// The number of steps does not grow, but each step waits for memory. The wait depends on how
    /// much of what is looked at the caches hold: from a few cycles to a miss in all of them, two
    /// decades of time, whatever the size.
    CachesOnly,
    /// As the size does, or less.
    Linear,
}

impl Order {
    /// The largest exponent that still passes for this order. Noise, and caches that hold what a
    /// small size needs and no longer what a large one does, bend a line over three decades by as
    /// much.
    fn most(self) -> f64 {
        match self {
            Order::Constant => 0.15,
            Order::CachesOnly => 0.5,
            Order::Linear => 1.15,
        }
    }
}

/// What something costs at one size after another.
#[derive(Clone, Debug)]
pub struct Growth {
    name: String,
    unit: Unit,
    points: Vec<Point>,
}

#[derive(Clone, Debug)]
struct Point {
    label: String,
    size: f64,
    cost: f64,
}

impl Growth {
    /// The growth of what has this name, `lookup/growth/run` for one. Its cost is in `unit`, of
    /// which less is better.
    pub fn new(name: impl Into<String>, unit: Unit) -> Growth {
        Growth {
            name: name.into(),
            unit,
            points: Vec::new(),
        }
    }

    /// Adds what it costs at a size, which reads as `label`.
    pub fn point(&mut self, label: impl Into<String>, size: f64, cost: f64) {
        self.points.push(Point {
            label: label.into(),
            size,
            cost,
        });
    }

    /// The exponent `e` for which the costs come closest to `size^e`: 0 is constant, 1 is
    /// linear. `None` if there are not two sizes with a cost.
    pub fn exponent(&self) -> Option<f64> {
        let logs: Vec<_> = self
            .points
            .iter()
            .filter(|point| point.size > 0.0 && point.cost > 0.0)
            .map(|point| (point.size.ln(), point.cost.ln()))
            .collect();
        let count = logs.len() as f64;
        let mean_x = logs.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = logs.iter().map(|(_, y)| y).sum::<f64>() / count;
        let along = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
        let across = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y));
        (along > 0.0).then(|| across.sum::<f64>() / along)
    }

    /// A row for each size, and one with the exponent and the name of the order of growth.
    pub fn rows(&self, expected: Order) -> Vec<Row> {
        let mut rows: Vec<_> = self
            .points
            .iter()
            .map(|point| {
                let name = format!("{}/{}", self.name, point.label);
                Row::new(name, point.cost, self.unit)
            })
            .collect();
        if let Some(exponent) = self.exponent() {
            let name = format!("{}: {}, exponent", self.name, order_name(exponent));
            rows.push(Row::new(name, exponent, Unit::Count).target(expected.most()));
        }
        rows
    }
}

fn order_name(exponent: f64) -> &'static str {
    match exponent {
        ..=0.15 => "constant",
        ..0.85 => "less than linear",
        ..=1.15 => "linear",
        _ => "more than linear",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(cost: impl Fn(f64) -> f64) -> Growth {
        let mut growth = Growth::new("g", Unit::Nanoseconds);
        for size in [1.0, 10.0, 100.0, 1000.0] {
            growth.point(format!("{size}"), size, cost(size));
        }
        growth
    }

    #[test]
    fn the_order_of_growth_is_named_and_judged() {
        let last = |cost: fn(f64) -> f64, expected| {
            let row = growth(cost).rows(expected).pop().unwrap();
            (row.name, row.met)
        };
        let named = |order: &str| format!("g: {order}, exponent");
        let constant = last(|_| 7.0, Order::Constant);
        assert_eq!(constant, (named("constant"), Some(true)));
        let linear = last(|size| 3.0 * size, Order::Linear);
        assert_eq!(linear, (named("linear"), Some(true)));
        let linear = last(|size| 3.0 * size, Order::Constant);
        assert_eq!(linear, (named("linear"), Some(false)));
        let square = last(|size| size * size, Order::Linear);
        assert_eq!(square, (named("more than linear"), Some(false)));
        let root = last(f64::sqrt, Order::Linear);
        assert_eq!(root, (named("less than linear"), Some(true)));
    }

    #[test]
    fn one_size_has_no_order() {
        let mut growth = Growth::new("g", Unit::Nanoseconds);
        assert_eq!(growth.exponent(), None);
        growth.point("1", 1.0, 5.0);
        assert_eq!(growth.exponent(), None);
        assert_eq!(growth.rows(Order::Linear).len(), 1);
    }
}
