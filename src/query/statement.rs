//! One statement, and only such as read.
//!
//! What a statement may be is a list of what is allowed; everything else is refused by its first words. The planned
//! statement is judged once more (`engine.rs`), so that what hides in a query is found.
//!
//! The engine walks statements recursively. It grows its stack where it does, but not where it frees them, so how large
//! a statement may be is bounded here, before it is parsed.

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{SetExpr, Statement as Ast};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::error::QueryError;

/// The longest text of a statement, in bytes.
pub(super) const MAX_TEXT: usize = 256 << 10;

/// The most words and signs of a statement, without literals and the commas between them: each may be one more
/// operation around all that came before.
const MAX_TOKENS: usize = 4_000;

/// How deeply parentheses and subqueries may be nested.
const MAX_NESTING: usize = 50;

/// What a statement may begin with, for the error.
const ALLOWED: &str = "SELECT, WITH, VALUES, EXPLAIN, DESCRIBE or SHOW";

/// The one statement in `sql`, if it only reads.
pub(super) fn parse(sql: &str) -> Result<Statement, QueryError> {
    let mut statements = parse_all(sql)?;
    let statement = match statements.len() {
        0 => {
            return Err(QueryError::invalid(format!(
                "there is no statement: begin with {ALLOWED}"
            )));
        }
        1 => statements.remove(0),
        more => {
            return Err(QueryError::invalid(format!(
                "these are {more} statements; send one at a time"
            )));
        }
    };
    check(&statement)?;
    Ok(statement)
}

fn parse_all(sql: &str) -> Result<Vec<Statement>, QueryError> {
    if sql.len() > MAX_TEXT {
        return Err(QueryError::invalid(format!(
            "the statement has {} bytes; at most {MAX_TEXT} are read",
            sql.len()
        )));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize()
        .map_err(|error| QueryError::invalid(error.to_string()))?;
    let counted = tokens.iter().filter(|token| {
        !matches!(
            token,
            Token::Whitespace(_)
                | Token::Comma
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::SemiColon
                | Token::EOF
        )
    });
    let counted = counted.count();
    if counted > MAX_TOKENS {
        return Err(QueryError::invalid(format!(
            "the statement has {counted} words and signs besides literals; at most {MAX_TOKENS} are read"
        )));
    }
    let parser = DFParserBuilder::new(sql)
        .with_dialect(&dialect)
        .with_recursion_limit(MAX_NESTING)
        .build();
    let parsed = parser.and_then(|mut parser| parser.parse_statements());
    let parsed = parsed.map_err(|error| {
        let text = error.strip_backtrace();
        let text = text.strip_prefix("SQL error: ").unwrap_or(&text).to_owned();
        let text = text
            .strip_prefix("ParserError(\"")
            .and_then(|text| text.strip_suffix("\")"))
            .unwrap_or(&text)
            .replace("\\\"", "\"");
        QueryError::invalid(format!("this is not SQL that is understood: {text}"))
    })?;
    Ok(parsed.into())
}

/// Whether the statement only reads.
fn check(statement: &Statement) -> Result<(), QueryError> {
    match statement {
        Statement::Statement(ast) => check_ast(ast),
        Statement::Explain(explain) => check(&explain.statement),
        Statement::CreateExternalTable(_) => Err(QueryError::refused("CREATE EXTERNAL TABLE")),
        Statement::CopyTo(_) => Err(QueryError::refused("COPY")),
        Statement::Reset(_) => Err(QueryError::refused("RESET")),
    }
}

fn check_ast(ast: &Ast) -> Result<(), QueryError> {
    match ast {
        Ast::Query(query) => check_query(&query.body, &ast.to_string()),
        Ast::Explain { statement, .. } => check_ast(statement),
        Ast::ExplainTable { .. }
        | Ast::ShowTables { .. }
        | Ast::ShowColumns { .. }
        | Ast::ShowFunctions { .. } => Ok(()),
        Ast::ShowVariable { variable } if is_of_tables(variable) => Ok(()),
        other => Err(QueryError::refused(&first_words(&other.to_string()))),
    }
}

/// `SHOW TABLES` may be parsed as the variable of that name.
fn is_of_tables(variable: &[datafusion::sql::sqlparser::ast::Ident]) -> bool {
    matches!(variable, [only] if only.value.eq_ignore_ascii_case("tables"))
}

/// A query may have a statement that writes in the place of a SELECT.
fn check_query(body: &SetExpr, text: &str) -> Result<(), QueryError> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => {
            Err(QueryError::refused("SELECT … INTO"))
        }
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) => Ok(()),
        SetExpr::Query(query) => check_query(&query.body, text),
        SetExpr::SetOperation { left, right, .. } => {
            check_query(left, text)?;
            check_query(right, text)
        }
        SetExpr::Insert(inner)
        | SetExpr::Update(inner)
        | SetExpr::Delete(inner)
        | SetExpr::Merge(inner) => Err(QueryError::refused(&first_words(&inner.to_string()))),
    }
}

/// The words in capitals with which a statement begins: `CREATE TABLE`.
fn first_words(text: &str) -> String {
    let words: Vec<&str> = text
        .split_whitespace()
        .take_while(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .take(3)
        .collect();
    match words.is_empty() {
        true => "this statement".to_owned(),
        false => words.join(" "),
    }
}

/// The statements of a text that are complete, which end with a semicolon, and what is left behind them. For who is
/// typed at.
pub fn complete_statements(text: &str) -> (Vec<String>, String) {
    let dialect = GenericDialect {};
    let Ok(tokens) = Tokenizer::new(&dialect, text).tokenize() else {
        // A string or a comment is still open.
        return (Vec::new(), text.to_owned());
    };
    let mut complete = Vec::new();
    let mut current = String::new();
    let mut empty = true;
    for token in tokens {
        match token {
            Token::SemiColon => {
                if !empty {
                    complete.push(std::mem::take(&mut current).trim().to_owned());
                }
                (current, empty) = (String::new(), true);
            }
            token => {
                empty &= matches!(token, Token::Whitespace(_));
                current.push_str(&token.to_string());
            }
        }
    }
    if empty {
        current.clear();
    }
    (complete, current)
}
