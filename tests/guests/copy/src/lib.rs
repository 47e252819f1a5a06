//! Copies key, value and headers of every record: what the boundary costs when everything crosses it both ways.

use forebay_sdk::prelude::*;

pub struct Copy {
    out: Output,
}

impl Transform for Copy {
    const NAME: &'static str = "copy";
    const VERSION: &'static str = "1.0.0";
    const ABOUT: &'static str = "copies every part of a record";

    fn define(module: &mut Module) -> Self {
        module.needs_headers();
        Self { out: module.output("out") }
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        let mut headers = [("", None); 2];
        headers.iter_mut().zip(record.headers()).for_each(|(to, from)| *to = from);
        ctx.emission(self.out).key(record.key()).headers(&headers).bytes(record.value());
        Ok(())
    }
}

forebay_sdk::transform!(Copy);
