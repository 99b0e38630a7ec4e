use super::*;
use crate::reduce::testing::{Data, Element, Layout, epsilon, noise, refusal, run, same};

/// (indices, rows of the table, columns); the large ones are shared among workers.
const CASES: [(&[usize], usize, &[usize]); 22] = [
    (&[], 3, &[2]),
    (&[0], 3, &[2]),
    (&[4], 3, &[]),
    (&[5], 1, &[3]),
    (&[5], 4, &[0]),
    (&[2, 3], 7, &[16]),
    (&[3, 5], 7, &[2, 3]),
    (&[63], 5, &[65]),
    (&[2, 2, 3], 11, &[3, 17]),
    (&[257], 31, &[129]),
    (&[0], 0, &[7]),
    (&[40], 9, &[1]),
    (&[9], 9, &[5]),
    (&[70], 9, &[15]),
    (&[31], 9, &[17]),
    (&[31], 9, &[31]),
    (&[16], 9, &[64]),
    (&[3], 4, &[1025]),
    (&[300], 9, &[128]),
    // More rows than indices: workers share the rows.
    (&[20], 701, &[65]),
    (&[9], 4099, &[9]),
    (&[0], 17, &[2000]),
];

fn picks(count: usize, limit: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * i + 3 * i + 1) % limit.max(1)) as u32).collect()
}

fn check_gather<T: Element>(case: (&[usize], usize, &[usize]), layout: Layout, table: &[T]) {
    let (dims, limit, columns) = case;
    let width: usize = columns.iter().product();
    let indices = picks(dims.iter().product(), limit);
    let ins = [Data::new(&[&[limit], columns].concat(), table, layout), Data::new(dims, &indices, layout)];
    let (found, fault) = run::<T>(&[dims, columns].concat(), &ins, &gather);
    assert_eq!(fault, Ok(()));
    let expected: Vec<T> = indices.iter().flat_map(|i| &table[*i as usize * width..][..width]).copied().collect();
    same(&found, &expected, &format!("{case:?}, {layout:?}"));
}

#[test]
fn gather_copies_rows_of_every_dtype() {
    for case in CASES {
        let size = case.1 * case.2.iter().product::<usize>();
        for layout in Layout::ALL {
            check_gather(case, layout, &noise::<f32>(1, size));
            check_gather(case, layout, &noise::<f64>(2, size));
            check_gather(case, layout, &(0..size as u32).collect::<Vec<_>>());
        }
    }
}

fn check_scatter<T: Real + Element>(case: (&[usize], usize, &[usize]), layout: Layout) {
    let (dims, limit, columns) = case;
    let (count, width): (usize, usize) = (dims.iter().product(), columns.iter().product());
    let (indices, ct) = (picks(count, limit), noise::<T>(3, count * width));
    let ins = [Data::new(dims, &indices, layout), Data::new(&[dims, columns].concat(), &ct, layout)];
    let (found, fault) = run::<T>(&[&[limit], columns].concat(), &ins, &scatter_add);
    assert_eq!(fault, Ok(()));
    let mut expected = vec![T::from_f64(0.0); limit * width];
    let mut exact = vec![(0.0, 0.0); limit * width];
    for (index, ct) in indices.iter().zip(ct.chunks(width.max(1))) {
        for (j, ct) in ct.iter().enumerate() {
            let at = *index as usize * width + j;
            expected[at] = expected[at] + *ct;
            exact[at] = (exact[at].0 + ct.to_f64(), exact[at].1 + ct.to_f64().abs());
        }
    }
    same(&found, &expected, &format!("{case:?}, {layout:?}"));
    let eps = epsilon::<T>();
    for (found, (sum, absolute)) in found.iter().zip(exact) {
        assert!((found.to_f64() - sum).abs() <= count as f64 * eps * absolute);
    }
}

#[test]
fn scatter_add_adds_in_the_order_of_positions() {
    for case in CASES {
        for layout in Layout::ALL {
            check_scatter::<f32>(case, layout);
            check_scatter::<f64>(case, layout);
        }
    }
}

#[test]
fn broadcast_indices_and_cotangents() {
    let table = Data::new(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0], Layout::RowMajor);
    let index = Data::broadcast(&[3], &[0], &[1u32]);
    assert_eq!(run::<f32>(&[3, 2], &[table, index.clone()], &gather).0, [3.0, 4.0, 3.0, 4.0, 3.0, 4.0]);
    let ct = Data::broadcast(&[3, 2], &[0, 0], &[0.5f32]);
    assert_eq!(run::<f32>(&[2, 2], &[index, ct], &scatter_add).0, [0.0, 0.0, 1.5, 1.5]);
}

#[test]
fn a_bad_index_is_a_fault_and_a_row_of_zeros() {
    let (count, limit, width) = (400, 9, 100);
    let mut indices = picks(count, limit);
    indices[33] = 9;
    indices[350] = u32::MAX;
    let indices = Data::new(&[count], &indices, Layout::RowMajor);
    let fault = Err(Fault { row: 33, value: 9, limit: 9 });
    let ones = Data::new(&[limit, width], &vec![1.0f32; limit * width], Layout::RowMajor);
    let (rows, found) = run::<f32>(&[count, width], &[ones, indices.clone()], &gather);
    assert_eq!(found, fault);
    for (r, row) in rows.chunks(width).enumerate() {
        assert!(row.iter().all(|x| *x == if r == 33 || r == 350 { 0.0 } else { 1.0 }));
    }
    let ones = Data::new(&[count, width], &vec![1.0f32; count * width], Layout::RowMajor);
    let (sums, found) = run::<f32>(&[limit, width], &[indices, ones], &scatter_add);
    assert_eq!(found, fault);
    assert_eq!(sums.iter().sum::<f32>(), ((count - 2) * width) as f32);
    let none = [Data::new::<f32>(&[0, 2], &[], Layout::RowMajor), Data::new(&[1], &[0u32], Layout::RowMajor)];
    assert_eq!(run::<f32>(&[1, 2], &none, &gather), (vec![0.0, 0.0], Err(Fault { row: 0, value: 0, limit: 0 })));
}

#[test]
fn wrong_calls_are_refused() {
    use DType::{F32, F64, U32};
    let (table, index) = ((F32, &[5, 2][..]), (U32, &[3][..]));
    let rows = (F32, &[3, 2][..]);
    assert_eq!(refusal((F64, &[3, 2]), &[table, index], &gather), "table is f32, output is f64");
    assert_eq!(refusal(rows, &[table, (F32, &[3])], &gather), "indices are f32, expected u32");
    assert_eq!(refusal((F32, &[3]), &[table, index], &gather), "the tensor of rows has shape (3,), expected [3, 2]");
    assert_eq!(refusal(index, &[(U32, &[]), index], &gather), "a table has at least one axis");
    assert_eq!(refusal((U32, &[5, 2]), &[index, (U32, &[3, 2])], &scatter_add), "needs floats, got u32");
    assert_eq!(refusal(table, &[index, (F64, &[3, 2])], &scatter_add), "mixes f64 and f32");
    assert_eq!(refusal(table, &[index, table], &scatter_add), "the tensor of rows has shape (5, 2), expected [3, 2]");
}
