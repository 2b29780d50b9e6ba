//! Functions that the engine has in a way that does not fit here.
//!
//! * `now()` has microseconds, as the timestamps of records do: compared with nanoseconds, they would be converted one
//!   by one, a record of the year 9999 would fail the query, and a filter would not tell what need not be read.
//! * `replace` and `regexp_replace` can make a text many times longer, before any limit of memory sees it: how long is
//!   looked at before.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, StringArray};
use arrow_schema::{DataType, Field, FieldRef, TimeUnit};
use datafusion::arrow::compute::cast;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::error::{QueryError, QueryErrorKind};
use crate::types::ByteCount;

/// The functions that are looked after.
const GROWING: &[&str] = &["replace", "regexp_replace"];

/// Puts these functions in the place of the engine's. One call of them makes no more of a batch than all queries may
/// have.
pub(super) fn register(context: &SessionContext, memory: ByteCount) {
    context.register_udf(ScalarUDF::from(Now::default()));
    for name in GROWING {
        if let Ok(inner) = context.state().udf(name) {
            context.register_udf(ScalarUDF::from(Growing {
                inner,
                most: memory.0,
            }));
        }
    }
}

/// The time at which the query began.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Now {
    signature: Signature,
    aliases: Vec<String>,
}

impl Default for Now {
    fn default() -> Now {
        Now {
            signature: Signature::nullary(Volatility::Stable),
            aliases: vec!["current_timestamp".to_owned()],
        }
    }
}

fn utc() -> Option<Arc<str>> {
    Some(Arc::from("UTC"))
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &'static str {
        "now"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, utc()))
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let kind = self.return_type(&[])?;
        Ok(Arc::new(Field::new(self.name(), kind, false)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("now() is a literal when a query runs")
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(began) = info.query_execution_start_time() else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let micros = ScalarValue::TimestampMicrosecond(Some(began.timestamp_micros()), utc());
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(micros, None)))
    }
}

/// A function of a text, of what is replaced in it, and of what it is replaced with.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Growing {
    inner: Arc<ScalarUDF>,
    /// How many bytes it may make of a batch.
    most: u64,
}

impl ScalarUDFImpl for Growing {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [text, _, with, ..] = args.args.as_slice() {
            let rows = u64::try_from(args.number_rows).unwrap_or(u64::MAX);
            let (text, with) = (Lengths::of(text), Lengths::of(with));
            // At most before each letter, behind the last, and what it refers to in the text again.
            let places = text.total.saturating_add(rows);
            let made = places
                .saturating_mul(with.longest)
                .saturating_add(text.total.saturating_mul(with.references.saturating_add(1)));
            if made > self.most && self.is_long(&args, rows)? {
                let name = self.name();
                let message = format!(
                    "what {name} may make of one batch has {made} bytes, more than {} (query_memory)",
                    self.most,
                );
                return Err(QueryError::new(QueryErrorKind::Memory, message).into());
            }
        }
        self.inner.inner().invoke_with_args(args)
    }
}

impl Growing {
    /// Whether a result may be too long also if what is replaced is looked for.
    fn is_long(&self, args: &ScalarFunctionArgs, rows: u64) -> Result<bool> {
        let [text, from, with] = args.args.as_slice() else {
            return Ok(true);
        };
        let ColumnarValue::Scalar(from) = from else {
            return Ok(true);
        };
        let Some(Some(from)) = from.try_as_str().filter(|_| self.name() == "replace") else {
            return Ok(true);
        };
        let places = match (from.is_empty(), texts(text)?) {
            (true, texts) => texts
                .iter()
                .flatten()
                .map(|text| text.len() as u64 + 1)
                .sum(),
            (false, texts) => {
                let texts = texts.iter().flatten();
                texts
                    .map(|text| text.matches(from).count() as u64)
                    .sum::<u64>()
            }
        };
        let places = match text {
            ColumnarValue::Array(_) => places,
            // One text for all rows, or for one result.
            ColumnarValue::Scalar(_) => places.saturating_mul(rows),
        };
        let (text, with) = (Lengths::of(text), Lengths::of(with));
        let made = places.saturating_mul(with.longest);
        Ok(made.saturating_add(text.total) > self.most)
    }
}

fn texts(value: &ColumnarValue) -> Result<StringArray> {
    let array = value.to_array(1)?;
    let text = cast(&array, &DataType::Utf8)?;
    Ok(text.as_string::<i32>().clone())
}

/// How long texts are, in bytes.
struct Lengths {
    total: u64,
    longest: u64,
    shortest: u64,
    /// How many backslashes the one has that has most.
    references: u64,
}

impl Lengths {
    fn of(value: &ColumnarValue) -> Lengths {
        let array: ArrayRef = match value {
            ColumnarValue::Array(array) => array.clone(),
            ColumnarValue::Scalar(scalar) => match scalar.to_array() {
                Ok(array) => array,
                Err(_) => return Lengths::from_iter([]),
            },
        };
        match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().iter().flatten().collect(),
            DataType::LargeUtf8 => array.as_string::<i64>().iter().flatten().collect(),
            DataType::Utf8View => array.as_string_view().iter().flatten().collect(),
            _ => {
                let size = u64::try_from(array.get_array_memory_size()).unwrap_or(u64::MAX);
                Lengths {
                    total: size,
                    longest: size,
                    shortest: 0,
                    references: 0,
                }
            }
        }
    }
}

impl<'a> FromIterator<&'a str> for Lengths {
    fn from_iter<T: IntoIterator<Item = &'a str>>(texts: T) -> Lengths {
        let mut lengths = Lengths {
            total: 0,
            longest: 0,
            shortest: u64::MAX,
            references: 0,
        };
        for text in texts {
            let len = text.len() as u64;
            lengths.total = lengths.total.saturating_add(len);
            lengths.longest = lengths.longest.max(len);
            lengths.shortest = lengths.shortest.min(len);
            let references = text.bytes().filter(|byte| *byte == b'\\').count() as u64;
            lengths.references = lengths.references.max(references);
        }
        lengths
    }
}
