//! What keys must satisfy together.

use super::*;

#[test]
fn keys_must_fit_each_other() {
    let check = |sets: &[(&str, &str)]| {
        let mut config = text_defaults();
        sets.iter().for_each(|(key, value)| config.set(key, value).unwrap());
        config.check().map_err(|error| (error.what, error.hint.unwrap()))
    };
    let (what, hint) = check(&[("model.width", "100"), ("model.heads", "3")]).unwrap_err();
    assert_eq!(what, "model.width must be a multiple of model.heads, got a width of 100 and 3 heads");
    assert_eq!(hint, "with 3 heads, a width of 99 or 102 fits");
    let (_, hint) = check(&[("model.width", "2")]).unwrap_err();
    assert_eq!(hint, "with 4 heads, a width of 4 fits");
    let (what, hint) = check(&[("optimizer.lr", "1e-5")]).unwrap_err();
    assert_eq!(what, "schedule.min_lr must not be above optimizer.lr, got 0.0001 and 0.00001");
    assert_eq!(hint, "set schedule.min_lr too, a tenth of the learning rate for example, or schedule.kind=constant");
    assert!(check(&[("optimizer.lr", "1e-5"), ("schedule.kind", "constant")]).is_ok());
    assert!(check(&[("optimizer.lr", "1e-4")]).is_ok());
    for kind in ["step", "exponential", "plateau"] {
        assert!(check(&[("optimizer.lr", "1e-5"), ("schedule.kind", kind)]).is_err(), "{kind}");
    }
    assert!(check(&[("optimizer.lr", "1e-5"), ("schedule.kind", "onecycle")]).is_ok());
    let hint = "keep a part of the data with data.validation=0.1, and measure it with train.eval_every=100 for example";
    let needs = |what: &str, missing: &str| {
        Err((format!("{what} needs evaluations during training, but {missing} is 0"), hint.to_string()))
    };
    let plateau = ("schedule.kind", "plateau");
    assert_eq!(check(&[plateau, ("data.validation", "0")]), needs("schedule.kind = plateau", "data.validation"));
    assert_eq!(check(&[plateau, ("train.eval_every", "0")]), needs("schedule.kind = plateau", "train.eval_every"));
    let patience = ("train.patience", "3");
    assert_eq!(check(&[patience, ("train.eval_every", "0")]), needs("train.patience", "train.eval_every"));
    assert!(check(&[plateau, patience]).is_ok());
    for (shards, batch, fits) in
        [("3", "12", "1, 2 or 4"), ("8", "12", "1, 2 or 4"), ("2", "7", "1"), ("6", "6", "1 or 2")]
    {
        let (what, hint) = check(&[("train.grad_shards", shards), ("train.batch", batch)]).unwrap_err();
        let rule = "train.grad_shards must be a power of two that divides train.batch";
        assert_eq!(what, format!("{rule}, got {shards} and a batch of {batch}"));
        assert_eq!(hint, format!("for a batch of {batch}, set it to {fits}"));
    }
    assert!(check(&[("train.grad_shards", "16"), ("train.batch", "16")]).is_ok());
    let mut config = text_defaults();
    config.train.batch = 0;
    assert_eq!(config.check().unwrap_err().what, "train.batch must be at least 1, got 0");
    config.train.batch = 1;
    config.optimizer.lr = f64::NAN;
    assert_eq!(config.check().unwrap_err().what, "optimizer.lr must be above 0, got NaN");
    config = text_defaults();
    config.model.heads = 0;
    assert_eq!(config.check().unwrap_err().what, "model.heads must be at least 1, got 0");
}
