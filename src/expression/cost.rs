//! What an expression can cost at most on an event, told from both before it is evaluated. Macros over lists are all
//! that repeats in CEL, and what adds texts or lists is all that makes much of little.

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr};

use super::variables::Size;
use super::{depth, names};

/// Macros inside each other: `data.attachments.exists(a, a.products.exists(p, p.id == "1"))` are two.
const MAX_NESTING: u32 = 2;

/// Bytes that all repetitions together may touch or make.
const MAX_WORK: u128 = 256 * 1024 * 1024;

/// What repeats in an expression, and what grows.
#[derive(Debug, Default)]
pub(super) struct Cost {
    /// Macros inside each other.
    nesting: u32,
    /// Additions, each of which may double.
    additions: u32,
    /// Levels of the part that is looked at.
    level: usize,
}

impl Cost {
    /// Whether the expression may be evaluated on an event of this size.
    pub(super) fn allows(&self, size: &Size) -> bool {
        let grown = u128::from(self.additions) + 1;
        let rounds = (size.longest as u128 * grown).pow(self.nesting);
        rounds.saturating_mul(size.bytes as u128 * grown) <= MAX_WORK
    }
}

/// The cost of an expression that names only what there is.
pub(super) fn of(expression: &IdedExpr) -> Result<Cost, String> {
    let mut cost = Cost::default();
    walk(expression, 0, &mut Vec::new(), &mut cost)?;
    Ok(cost)
}

fn walk(expression: &IdedExpr, nesting: u32, bound: &mut Vec<String>, cost: &mut Cost) -> Result<(), String> {
    if cost.level == depth::MAX_LEVELS {
        return Err(depth::too_deep());
    }
    cost.level += 1;
    parts(expression, nesting, bound, cost)?;
    cost.level -= 1;
    Ok(())
}

fn parts(expression: &IdedExpr, nesting: u32, bound: &mut Vec<String>, cost: &mut Cost) -> Result<(), String> {
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) => Ok(()),
        Expr::Ident(name) if name.starts_with('@') || bound.contains(name) => Ok(()),
        Expr::Ident(name) => names::variable(name),
        Expr::Call(call) => {
            names::function(&call.func_name)?;
            // Macros gather their results by adding lists of one, which is counted with the macro.
            if call.func_name == "_+_" && !is_accumulator(call.args.first()) {
                cost.additions += 1;
            }
            let mut parts = call.target.as_deref().into_iter().chain(&call.args);
            parts.try_for_each(|part| walk(part, nesting, bound, cost))
        }
        Expr::Comprehension(macro_call) => {
            if nesting == MAX_NESTING {
                return Err(format!("macros over lists may stand inside each other {MAX_NESTING} deep"));
            }
            cost.nesting = cost.nesting.max(nesting + 1);
            walk(&macro_call.iter_range, nesting, bound, cost)?;
            walk(&macro_call.accu_init, nesting, bound, cost)?;
            let before = bound.len();
            bound.extend([macro_call.iter_var.clone(), macro_call.accu_var.clone()]);
            bound.extend(macro_call.iter_var2.clone());
            for part in [&macro_call.loop_cond, &macro_call.loop_step, &macro_call.result] {
                walk(part, nesting + 1, bound, cost)?;
            }
            bound.truncate(before);
            Ok(())
        }
        Expr::List(list) => list.elements.iter().try_for_each(|element| walk(element, nesting, bound, cost)),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| of_entry(&entry.expr, nesting, bound, cost)),
        Expr::Select(select) => walk(&select.operand, nesting, bound, cost),
        Expr::Struct(_) => Err("there are no message types; write {\"name\": value} for an object".to_owned()),
    }
}

fn of_entry(entry: &EntryExpr, nesting: u32, bound: &mut Vec<String>, cost: &mut Cost) -> Result<(), String> {
    match entry {
        EntryExpr::StructField(field) => walk(&field.value, nesting, bound, cost),
        EntryExpr::MapEntry(entry) => {
            walk(&entry.key, nesting, bound, cost)?;
            walk(&entry.value, nesting, bound, cost)
        }
    }
}

/// What a macro gathers its results in has a name that nobody can write.
fn is_accumulator(part: Option<&IdedExpr>) -> bool {
    matches!(part.map(|part| &part.expr), Some(Expr::Ident(name)) if name.starts_with('@'))
}
