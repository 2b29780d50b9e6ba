//! Memory that the engine does not count itself, and steps that nothing breaks off.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

/// The same plan, in which what holds all of its input without counting it has it counted, and what makes much out of
/// little stops now and then: a join of two small inputs may go on for hours without asking for another row of either,
/// which are the only moments at which the engine lets a query be stopped.
pub(super) fn bounded(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let bounded = plan.transform_up(|node| {
        let any: &dyn Any = node.as_ref();
        if node.children().len() > 1 {
            return Ok(Transformed::yes(Arc::new(CooperativeExec::new(node))));
        }
        if !any.is::<WindowAggExec>() {
            return Ok(Transformed::no(node));
        }
        let inputs = node.children().into_iter().cloned();
        let inputs = inputs.map(|input| Arc::new(Held { input }) as Arc<dyn ExecutionPlan>);
        let inputs = inputs.collect();
        Ok(Transformed::yes(replace_children_if_necessary(
            node, inputs,
        )?))
    })?;
    Ok(bounded.data)
}

/// Counts what passes as held until its stream is dropped.
#[derive(Debug)]
struct Held {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for Held {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl ExecutionPlan for Held {
    fn name(&self) -> &'static str {
        "Held"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(match children.pop() {
            Some(input) => Arc::new(Held { input }),
            None => self,
        })
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let consumer = MemoryConsumer::new("the rows of a window");
        let held = consumer.register(context.memory_pool());
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        let counted = input.map(move |batch| {
            let batch = batch?;
            // Once as it comes, and once in one piece with all others.
            held.try_grow(2 * batch.get_array_memory_size())?;
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
    }
}
