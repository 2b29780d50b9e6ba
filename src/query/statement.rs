//! One statement, and only such as read.
//!
//! What a statement may be is a list of what is allowed; everything else is refused by its first words. The planned
//! statement is judged once more (`engine.rs`), so that what hides in a query is found.
//!
//! The engine walks statements recursively. It grows its stack in most places where it does, but not where it frees
//! them, so how large a statement may be, and how deeply nested, is bounded here, before it is parsed. In how many
//! steps it is parsed is bounded by the dialect (`dialect.rs`), and what becomes of it by the engine (`engine.rs`).

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, SetExpr, Statement as Ast, Visit, Visitor,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

use super::dialect::Bounded;
use super::error::QueryError;

/// The longest text of a statement, in bytes.
pub(super) const MAX_TEXT: usize = 256 << 10;

/// The most words and signs of a statement, without literals and the commas between them: each may be one more
/// operation around all that came before.
const MAX_TOKENS: usize = 4_000;

/// How deeply parentheses and subqueries may be nested.
const MAX_NESTING: usize = 50;

/// How many types made of types (`ARRAY<…>`) a statement may name.
const MAX_MADE_TYPES: usize = 50;

/// How many tables a statement may read, each of the uses of what WITH names counted.
const MAX_TABLES: u64 = 500;

/// How deeply an expression may be nested.
const MAX_DEPTH: usize = 500;

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
    check_size(&statement)?;
    Ok(statement)
}

/// Whether a statement asks for nothing but what there is: SHOW.
pub(super) fn asks_what_there_is(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(ast) => !matches!(**ast, Ast::Query(_)),
        _ => false,
    }
}

/// Refuses what is small as it is written, and large when it is planned.
fn check_size(statement: &Statement) -> Result<(), QueryError> {
    match statement {
        Statement::Statement(ast) => match ast.visit(&mut Size::default()) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(()),
        },
        Statement::Explain(explain) => check_size(&explain.statement),
        _ => Ok(()),
    }
}

/// How many tables a statement reads: what WITH names is planned anew wherever it is used. And how deeply its
/// expressions are nested: for each level the engine goes through all others.
#[derive(Default)]
struct Size {
    /// The queries that are being looked at, outermost first.
    queries: Vec<QuerySize>,
    depth: usize,
}

#[derive(Default)]
struct QuerySize {
    tables: u64,
    /// What WITH names in it: the query that it is, until that was looked at, and then how many tables it reads.
    named: Vec<(String, *const Query, Option<u64>)>,
}

impl Visitor for Size {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        let named = query.with.iter().flat_map(|with| &with.cte_tables);
        let named = named.map(|cte| (cte.alias.name.value.clone(), &raw const *cte.query, None));
        self.queries.push(QuerySize {
            tables: 0,
            named: named.collect(),
        });
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<QueryError> {
        let name = relation.to_string();
        let named = self
            .queries
            .iter()
            .rev()
            .flat_map(|query| query.named.iter().rev());
        let read = named
            .filter_map(|(known, _, tables)| Some((known, (*tables)?)))
            .find(|(known, _)| known.eq_ignore_ascii_case(&name));
        let tables = read.map_or(1, |(_, tables)| tables);
        self.add(tables)
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        let Some(size) = self.queries.pop() else {
            return ControlFlow::Continue(());
        };
        let around = self.queries.iter_mut().flat_map(|query| &mut query.named);
        let is_it = |of: &&mut (String, *const Query, Option<u64>)| std::ptr::eq(of.1, query);
        match around.into_iter().find(is_it) {
            Some(named) => {
                named.2 = Some(size.tables.max(1));
                ControlFlow::Continue(())
            }
            None => self.add(size.tables),
        }
    }

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<QueryError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return ControlFlow::Break(QueryError::invalid(format!(
                "an expression is nested more than {MAX_DEPTH} deep, as a chain of operators is: write IN (…) for many ORs"
            )));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<QueryError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

impl Size {
    fn add(&mut self, tables: u64) -> ControlFlow<QueryError> {
        let Some(query) = self.queries.last_mut() else {
            return ControlFlow::Continue(());
        };
        query.tables = query.tables.saturating_add(tables);
        if query.tables > MAX_TABLES {
            return ControlFlow::Break(QueryError::invalid(format!(
                "the statement reads more than {MAX_TABLES} tables: what WITH names is read wherever it is used"
            )));
        }
        ControlFlow::Continue(())
    }
}

fn parse_all(sql: &str) -> Result<Vec<Statement>, QueryError> {
    if sql.len() > MAX_TEXT {
        return Err(QueryError::invalid(format!(
            "the statement has {} bytes; at most {MAX_TEXT} are read",
            sql.len()
        )));
    }
    let dialect = Bounded::default();
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize()
        .map_err(|error| QueryError::invalid(error.to_string()))?;
    check_nesting(&tokens)?;
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

/// Refuses what the parser would follow deeper than its own limit, which counts only some of its steps.
fn check_nesting(tokens: &[Token]) -> Result<(), QueryError> {
    let deep = || QueryError::invalid("the statement is nested too deeply");
    let words = tokens
        .iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)));
    let keyword = |token: &Token| match token {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let explains = words.clone().take_while(|token| {
        matches!(
            keyword(token),
            Keyword::EXPLAIN
                | Keyword::DESCRIBE
                | Keyword::DESC
                | Keyword::ANALYZE
                | Keyword::VERBOSE
        )
    });
    let explains =
        explains.filter(|token| !matches!(keyword(token), Keyword::ANALYZE | Keyword::VERBOSE));
    if explains.count() > 1 {
        return Err(QueryError::invalid(
            "an EXPLAIN is not explained: write it once",
        ));
    }
    let (mut depth, mut made) = (0_usize, 0_usize);
    let mut before = None;
    for token in words {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Lt => {
                let of = before.map(keyword);
                made += usize::from(matches!(
                    of,
                    Some(Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP)
                ));
            }
            token
                if [Some(token), before].map(|at| at.map(keyword))
                    == [Some(Keyword::INTERVAL); 2] =>
            {
                return Err(QueryError::invalid("INTERVAL is followed by INTERVAL"));
            }
            _ => {}
        }
        if depth > MAX_NESTING || made > MAX_MADE_TYPES {
            return Err(deep());
        }
        before = Some(token);
    }
    Ok(())
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
        Ast::Query(query) => check_query(&query.body),
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
fn check_query(body: &SetExpr) -> Result<(), QueryError> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => {
            Err(QueryError::refused("SELECT … INTO"))
        }
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) => Ok(()),
        SetExpr::Query(query) => check_query(&query.body),
        SetExpr::SetOperation { left, right, .. } => {
            check_query(left)?;
            check_query(right)
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

/// The statements of a text that are complete, which end with a semicolon, as they are written, and what is left behind
/// them. For who is typed at.
pub fn complete_statements(text: &str) -> (Vec<String>, String) {
    let dialect = Bounded::default();
    let Ok(tokens) = Tokenizer::new(&dialect, text).tokenize_with_location() else {
        // A string or a comment is still open.
        return (Vec::new(), text.to_owned());
    };
    let lines: Vec<usize> = std::iter::once(0)
        .chain(text.match_indices('\n').map(|(at, _)| at + 1))
        .collect();
    let place = |location: Location| {
        let line = usize::try_from(location.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let start = lines.get(line).copied().unwrap_or(text.len());
        let column = usize::try_from(location.column.saturating_sub(1)).unwrap_or(usize::MAX);
        let rest = text.get(start..).unwrap_or_default();
        let within = rest.char_indices().nth(column).map(|(at, _)| at);
        start + within.unwrap_or(rest.len())
    };
    let mut complete = Vec::new();
    let (mut start, mut empty) = (0, true);
    for token in tokens {
        match token.token {
            Token::SemiColon => {
                let at = place(token.span.start);
                if !empty {
                    complete.push(text[start..at].trim().to_owned());
                }
                (start, empty) = (at + 1, true);
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => empty = false,
        }
    }
    let rest = if empty { "" } else { &text[start..] };
    (complete, rest.to_owned())
}
