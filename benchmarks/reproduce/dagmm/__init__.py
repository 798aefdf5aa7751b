"""DAGMM's tables and figures: Zong et al., ICLR 2018."""
