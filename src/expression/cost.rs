//! What an expression can cost at most on an event, told from both before it is evaluated. Macros over lists are all
//! that repeats in CEL, and what adds texts or lists, or gathers results in a list, is all that makes much of little.

use cel::IdedExpr;
use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, LiteralValue};

use super::variables::Size;
use super::{depth, names};

/// Macros inside each other: `data.attachments.exists(a, a.products.exists(p, p.id == "1"))` are two.
const MAX_NESTING: u32 = 2;

/// Bytes that an evaluation may touch or make, all repetitions together.
const MAX_WORK: u128 = 256 * 1024 * 1024;

/// What compiling the pattern of `matches` is taken for. It is compiled each time.
const PATTERN: u128 = 64 * 1024;

/// What a value takes beside its text.
const VALUE: u128 = 32;

/// The most that a value of an expression can be.
#[derive(Debug, Clone, Copy, Default)]
struct Most {
    /// Bytes of it.
    bytes: u128,
    /// Members of it, if it is a list or an object.
    members: u128,
    /// Members of the largest list or object within it.
    within: u128,
}

impl Most {
    fn beside(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            members: self.members.max(other.members),
            within: self.within.max(other.within),
        }
    }

    /// The sum of both, if they are lists.
    fn and(self, other: Self) -> Self {
        Self { members: self.members.saturating_add(other.members), ..self.beside(other) }
    }

    /// So many of it, in one list.
    fn times(self, rounds: u128) -> Self {
        Self { bytes: self.bytes.saturating_mul(rounds), members: self.members.saturating_mul(rounds), ..self }
    }

    /// Something that is taken out of it.
    fn part(self) -> Self {
        Self { members: self.within, ..self }
    }

    /// A list or object of so many that it is the sum of.
    fn enclosed(self, members: usize) -> Self {
        Self { members: members as u128, within: self.within.max(self.members), ..self }
    }
}

/// Whether an expression that passed [`check`] may be evaluated on an event of this size.
pub(super) fn allows(expression: &IdedExpr, size: &Size) -> bool {
    let event = Most { bytes: size.bytes as u128, members: size.longest as u128, within: size.longest as u128 };
    let mut estimate = Estimate { event, bound: Vec::new(), work: 0 };
    estimate.of(expression);
    estimate.work <= MAX_WORK
}

/// Adds up what evaluating takes, from what each part takes.
struct Estimate<'a> {
    event: Most,
    /// Variables of macros, the innermost last.
    bound: Vec<(&'a str, Most)>,
    work: u128,
}

impl<'a> Estimate<'a> {
    fn of(&mut self, expression: &'a IdedExpr) -> Most {
        let most = match &expression.expr {
            Expr::Literal(LiteralValue::String(text)) => Most { bytes: text.inner().len() as u128, ..Most::default() },
            Expr::Unspecified | Expr::Struct(_) | Expr::Literal(_) => Most::default(),
            Expr::Ident(name) => {
                let bound = self.bound.iter().rev().find(|(bound, _)| bound == name);
                bound.map_or(self.event, |(_, most)| *most)
            }
            Expr::Select(select) => self.of(&select.operand).part(),
            Expr::Call(call) => {
                if call.func_name == "matches" {
                    self.work = self.work.saturating_add(PATTERN);
                }
                let parts = call.target.as_deref().into_iter().chain(&call.args);
                let both = parts.fold(Most::default(), |sum, part| sum.and(self.of(part)));
                if call.func_name == "_[_]" { both.part() } else { both }
            }
            Expr::List(list) => {
                let all = list.elements.iter().fold(Most::default(), |sum, element| sum.beside(self.of(element)));
                all.enclosed(list.elements.len())
            }
            Expr::Map(map) => {
                let all = map.entries.iter().fold(Most::default(), |sum, entry| sum.beside(self.of_entry(&entry.expr)));
                all.enclosed(map.entries.len())
            }
            Expr::Comprehension(macro_call) => self.of_macro(macro_call),
        };
        let most = Most { bytes: most.bytes.saturating_add(VALUE), ..most };
        self.work = self.work.saturating_add(most.bytes);
        most
    }

    fn of_entry(&mut self, entry: &'a EntryExpr) -> Most {
        match entry {
            EntryExpr::StructField(field) => self.of(&field.value),
            EntryExpr::MapEntry(entry) => self.of(&entry.key).beside(self.of(&entry.value)),
        }
    }

    /// Each round makes what the step makes, and the results of all rounds may be gathered.
    fn of_macro(&mut self, macro_call: &'a ComprehensionExpr) -> Most {
        let range = self.of(&macro_call.iter_range);
        let rounds = range.members.max(1);
        let start = self.of(&macro_call.accu_init);
        let before = (self.bound.len(), self.work);
        self.bound.push((&macro_call.iter_var, range.part()));
        self.bound.extend(macro_call.iter_var2.as_deref().map(|name| (name, range.part())));
        // What was gathered before is shared, and counted once.
        self.bound.push((&macro_call.accu_var, Most::default()));
        self.of(&macro_call.loop_cond);
        let step = self.of(&macro_call.loop_step);
        let of_round = self.work - before.1;
        self.work = before.1.saturating_add(of_round.saturating_mul(rounds));
        let gathered = start.and(step.times(rounds));
        self.bound.pop();
        self.bound.push((&macro_call.accu_var, gathered));
        let result = self.of(&macro_call.result);
        self.bound.truncate(before.0);
        result
    }
}

/// Whether an expression names only what there is, and is no deeper than it may be.
pub(super) fn check(expression: &IdedExpr) -> Result<(), String> {
    walk(expression, At { level: 0, nesting: 0 }, &mut Vec::new())
}

/// Where a part of an expression stands.
#[derive(Clone, Copy)]
struct At {
    level: usize,
    nesting: u32,
}

fn walk(expression: &IdedExpr, at: At, bound: &mut Vec<String>) -> Result<(), String> {
    if at.level == depth::MAX_LEVELS {
        return Err(depth::too_deep());
    }
    let at = At { level: at.level + 1, ..at };
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) => Ok(()),
        Expr::Ident(name) if name.starts_with('@') || bound.contains(name) => Ok(()),
        Expr::Ident(name) => names::variable(name),
        Expr::Call(call) => {
            names::function(&call.func_name)?;
            if call.func_name == "matches" {
                pattern(call.args.last().map(|part| &part.expr))?;
            }
            let mut parts = call.target.as_deref().into_iter().chain(&call.args);
            parts.try_for_each(|part| walk(part, at, bound))
        }
        Expr::Comprehension(macro_call) => {
            if at.nesting == MAX_NESTING {
                return Err(format!("macros over lists may stand inside each other {MAX_NESTING} deep"));
            }
            walk(&macro_call.iter_range, at, bound)?;
            walk(&macro_call.accu_init, at, bound)?;
            let before = bound.len();
            bound.extend([macro_call.iter_var.clone(), macro_call.accu_var.clone()]);
            bound.extend(macro_call.iter_var2.clone());
            let within = At { nesting: at.nesting + 1, ..at };
            for part in [&macro_call.loop_cond, &macro_call.loop_step, &macro_call.result] {
                walk(part, within, bound)?;
            }
            bound.truncate(before);
            Ok(())
        }
        Expr::List(list) => list.elements.iter().try_for_each(|element| walk(element, at, bound)),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| of_entry(&entry.expr, at, bound)),
        Expr::Select(select) => walk(&select.operand, at, bound),
        Expr::Struct(_) => Err("there are no message types; write {\"name\": value} for an object".to_owned()),
    }
}

/// Whether this can be looked for: what cannot would be noticed by the first event only, and keep all of them away.
fn pattern(part: Option<&Expr>) -> Result<(), String> {
    let Some(Expr::Literal(LiteralValue::String(pattern))) = part else {
        return Err("matches takes a pattern in quotes, which is the same for every event".to_owned());
    };
    match regex::Regex::new(pattern.inner()) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("matches takes a regular expression as the crate regex has them: {error}")),
    }
}

fn of_entry(entry: &EntryExpr, at: At, bound: &mut Vec<String>) -> Result<(), String> {
    match entry {
        EntryExpr::StructField(field) => walk(&field.value, at, bound),
        EntryExpr::MapEntry(entry) => {
            walk(&entry.key, at, bound)?;
            walk(&entry.value, at, bound)
        }
    }
}
