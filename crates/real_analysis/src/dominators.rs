//! Dominator tree of a control-flow graph, after Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm" (2001).
//!
//! Block A dominates B when every path from the entry to B passes through A. What a branch proved on the edge into A
//! therefore holds in B. Blocks are numbered in reverse postorder; the immediate dominator of a block is the nearest
//! common ancestor of its predecessors, found by walking up from the two with the larger number, until nothing changes.
//! The same on the graph with its edges turned round gives post-dominators (`control.rs`).

use crate::ir::{BlockId, Function, Terminator};

/// A graph with one entry.
pub(crate) trait Graph {
    fn len(&self) -> usize;
    fn entry(&self) -> BlockId;
    fn successors(&self, block: BlockId) -> Vec<BlockId>;
    fn predecessors(&self, block: BlockId) -> &[BlockId];
}

impl Graph for Function {
    fn len(&self) -> usize {
        self.blocks.len()
    }

    fn entry(&self) -> BlockId {
        BlockId(0)
    }

    /// The two ways out of a branch in the order of the text, so that reverse postorder is as close to it as it can be: what comes
    /// last is visited first.
    fn successors(&self, block: BlockId) -> Vec<BlockId> {
        let terminator = self.blocks[block.index()].terminator;
        let mut successors: Vec<BlockId> = terminator.successors().collect();
        if let Terminator::Branch { .. } = terminator {
            successors.sort_by_key(|successor| self.position(*successor));
        }
        successors
    }

    fn predecessors(&self, block: BlockId) -> &[BlockId] {
        &self.blocks[block.index()].preds
    }
}

impl Function {
    /// Where a block stands in the text. An empty one comes after its neighbours.
    fn position(&self, block: BlockId) -> u32 {
        let ranges = self.blocks[block.index()].insts.iter().map(|id| self.insts[id.index()].range);
        ranges.filter(|range| range.end != 0).map(|range| range.start).next().unwrap_or(u32::MAX)
    }
}

/// Reverse postorder and dominator tree of the reachable blocks.
#[derive(Debug)]
pub(crate) struct Dominators {
    /// Reachable blocks, predecessors before successors but for back edges.
    pub(crate) order: Vec<BlockId>,
    /// Position of a block in `order`, `u32::MAX` where unreachable.
    position: Vec<u32>,
    parent: Vec<u32>,
    /// Preorder interval in the dominator tree: A dominates B when A's interval contains B's.
    interval: Vec<(u32, u32)>,
}

impl Dominators {
    pub(crate) fn of(graph: &impl Graph) -> Self {
        let order = reverse_postorder(graph);
        let mut position = vec![u32::MAX; graph.len()];
        for (index, block) in order.iter().enumerate() {
            position[block.index()] = index as u32;
        }
        let parent = immediate_dominators(graph, &order, &position);
        let interval = intervals(&parent);
        Self { order, position, parent, interval }
    }

    pub(crate) fn reachable(&self, block: BlockId) -> bool {
        self.position[block.index()] != u32::MAX
    }

    /// The immediate dominator; `None` for the entry.
    pub(crate) fn parent(&self, block: BlockId) -> Option<BlockId> {
        let position = self.position[block.index()];
        (position != 0 && position != u32::MAX).then(|| self.order[self.parent[position as usize] as usize])
    }

    pub(crate) fn dominates(&self, above: BlockId, below: BlockId) -> bool {
        let (above, below) = (self.position[above.index()], self.position[below.index()]);
        if above == u32::MAX || below == u32::MAX {
            return false;
        }
        let (outer, inner) = (self.interval[above as usize], self.interval[below as usize]);
        outer.0 <= inner.0 && inner.1 <= outer.1
    }

    /// Whether the edge leads back to a block that dominates its origin: the back edge of a loop.
    pub(crate) fn is_back_edge(&self, from: BlockId, to: BlockId) -> bool {
        self.position[to.index()] <= self.position[from.index()]
    }
}

fn reverse_postorder(graph: &impl Graph) -> Vec<BlockId> {
    let mut visited = vec![false; graph.len()];
    let mut order = Vec::new();
    let entry = graph.entry();
    visited[entry.index()] = true;
    let mut stack = vec![(entry, graph.successors(entry))];
    while let Some((block, pending)) = stack.last_mut() {
        match pending.pop() {
            Some(next) if !visited[next.index()] => {
                visited[next.index()] = true;
                stack.push((next, graph.successors(next)));
            }
            Some(_) => {}
            None => {
                order.push(*block);
                stack.pop();
            }
        }
    }
    order.reverse();
    order
}

fn immediate_dominators(graph: &impl Graph, order: &[BlockId], position: &[u32]) -> Vec<u32> {
    let mut parent = vec![u32::MAX; order.len()];
    parent[0] = 0;
    let mut changed = true;
    while changed {
        changed = false;
        for (index, block) in order.iter().enumerate().skip(1) {
            let mut common = u32::MAX;
            for pred in graph.predecessors(*block) {
                let pred = position[pred.index()];
                if pred != u32::MAX && parent[pred as usize] != u32::MAX {
                    common = if common == u32::MAX { pred } else { nearest_common(&parent, common, pred) };
                }
            }
            if parent[index] != common {
                parent[index] = common;
                changed = true;
            }
        }
    }
    parent
}

fn nearest_common(parent: &[u32], mut a: u32, mut b: u32) -> u32 {
    while a != b {
        if a > b {
            a = parent[a as usize];
        } else {
            b = parent[b as usize];
        }
    }
    a
}

fn intervals(parent: &[u32]) -> Vec<(u32, u32)> {
    let mut children = vec![Vec::new(); parent.len()];
    for (index, parent) in parent.iter().enumerate().skip(1) {
        children[*parent as usize].push(index as u32);
    }
    let mut interval = vec![(0, 0); parent.len()];
    let mut clock = 1;
    let mut stack = vec![(0u32, 0usize)];
    interval[0].0 = 0;
    while let Some((node, next)) = stack.pop() {
        if let Some(child) = children[node as usize].get(next) {
            stack.push((node, next + 1));
            interval[*child as usize].0 = clock;
            clock += 1;
            stack.push((*child, 0));
        } else {
            interval[node as usize].1 = clock;
        }
    }
    interval
}
